"""Fields of a ModelInferRequest: each one is served, or refused by name. Lengths and counts are checked first.

tests/unit/triptych/protocol/test_fields.py reads the descriptors, so that a field of a newer protocol fails a test.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from triptych.contract.specs import RESERVED_PREFIXES
from triptych.errors import InvalidParameter, InvalidRequest, clipped
from triptych.protocol.parameters import Parameter, decode_parameters, unknown_field
from triptych.protocol.tensor_layout import SHARED_MEMORY

BACKGROUND: Final = "triptych_background"  # true: answer it from what other requests leave

# Parameters of Triton that this server does not serve. Zero, false and "" mean the same as no parameter.
_NOT_SERVED: Final[Mapping[str, str]] = {
    "priority": f"none: requests of a model are answered in the order in which they come, but for {BACKGROUND}",
    "sequence_id": "none: models here keep no state from one request to the next",
    "sequence_start": "none: models here keep no state from one request to the next",
    "sequence_end": "none: models here keep no state from one request to the next",
}
EMPTY_FINAL_RESPONSE: Final = "triton_enable_empty_final_response"
FINAL_RESPONSE: Final = "triton_final_response"
TIMEOUT: Final = "timeout"
_VALUE_BYTES: Final = 16  # of a typed value, while its field grows
_MAX_TIMEOUT_US: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of a request: the number of inputs, outputs and parameters, and the characters of each text."""

    items: int
    text: int

    def check(self, request: pb.ModelInferRequest) -> None:
        """Raises `InvalidRequest`. No contents are read.

        An item takes at least two bytes of the message and a character one, so a short message is within the limits.
        """
        if request.ByteSize() > min(self.items, self.text):
            self._check_items(request)
            self._check_texts(request)
        refuse_unknown_fields(request)

    def _check_items(self, request: pb.ModelInferRequest) -> None:
        for field in ("inputs", "outputs", "parameters", "raw_input_contents"):
            if (count := len(getattr(request, field))) > self.items:
                raise InvalidRequest(f"want at most {self.items} {field}, got {count}")

    def _check_texts(self, request: pb.ModelInferRequest) -> None:
        for field in ("model_name", "model_version", "id"):
            self.check_text(field, getattr(request, field))

    def check_text(self, field: str, text: str) -> None:
        """Raises `InvalidRequest` for a text over the limit."""
        if len(text) > self.text:
            raise InvalidRequest(f"{field}: want at most {self.text} characters, got {len(text)}")


def memory_bytes(request: pb.ModelInferRequest) -> int:
    """Bytes that a request takes in memory, at least."""
    contents = [tensor.contents for tensor in request.inputs if tensor.HasField("contents")]
    values = sum(len(value) for each in contents for _, value in each.ListFields())
    return int(request.ByteSize()) + _VALUE_BYTES * values


def refuse_unknown_fields(message: Message) -> None:
    """Raises `InvalidRequest` for a field that this version of the protocol does not have."""
    if (number := unknown_field(message)) is not None:
        name = message.DESCRIPTOR.full_name
        raise InvalidRequest(f"want the fields of {name} that this server knows, got field {number}")


def drop_inputs(request: pb.ModelInferRequest, known: Collection[str]) -> None:
    """Remove the inputs of other names, with their raw contents. A wrong number of these stays, to be refused."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        return
    for place in reversed(range(len(inputs))):
        if inputs[place].name not in known:
            del inputs[place]
            if raw:
                del raw[place]


def request_parameters(request: pb.ModelInferRequest, limits: RequestLimits) -> dict[str, Parameter]:
    """Parameters of the request. Raises `InvalidParameter` for one of the protocol that is not served here."""
    parameters = decode_parameters(request.parameters)
    for name, value in parameters.items():
        if isinstance(value, str) and len(value) > limits.text:
            limits.check_text(f"parameter '{name}'", value)
        if name in _NOT_SERVED and value:
            raise InvalidParameter(name, _NOT_SERVED[name], str(value))
        if name.startswith(RESERVED_PREFIXES):
            _check_reserved(name, value)
    return parameters


def wanted_outputs(request: pb.ModelInferRequest, known: Sequence[str]) -> Sequence[str]:
    """Outputs that the request names, or all of `known` if it names none. Raises `InvalidRequest`."""
    if not request.outputs:
        return known
    names: list[str] = []
    for output in request.outputs:
        name = output.name
        if name not in known:
            raise InvalidRequest(f"unknown output '{clipped(name)}'; there are: {', '.join(known)}")
        if name in names:
            raise InvalidRequest(f"output '{name}': want it asked for once, got a second time")
        if output.parameters:
            _refuse_output_parameter(name, next(iter(output.parameters)))
        refuse_unknown_fields(output)
        names.append(name)
    return names


def _refuse_output_parameter(output: str, parameter: str) -> None:
    if parameter == "classification":
        want = "none: the contract's postprocess makes classes; ask for its outputs without class_count"
    elif parameter in SHARED_MEMORY:
        want = "none: outputs always come in the message, there is no shared memory between it and the caller"
    else:
        want = "no parameters of an output"
    raise InvalidRequest(f"output '{output}', parameter '{clipped(parameter)}': want {want}")


def _check_reserved(name: str, value: Parameter) -> None:
    if name not in (EMPTY_FINAL_RESPONSE, BACKGROUND):
        want = f"none that begins so but {EMPTY_FINAL_RESPONSE} and {BACKGROUND}"
        raise InvalidParameter(name, want, "a parameter of another name")
    if not isinstance(value, bool):
        raise InvalidParameter(name, "true or false", f"{value!r}")


def own_timeout_s(request: pb.ModelInferRequest) -> float | None:
    """Parameter `timeout` of the request, which is in microseconds as in Triton; None without one, or for 0.

    Raises `InvalidParameter`.
    """
    if TIMEOUT not in request.parameters:
        return None
    value = decode_parameters({TIMEOUT: request.parameters[TIMEOUT]})[TIMEOUT]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_TIMEOUT_US:
        raise InvalidParameter(TIMEOUT, "microseconds, a whole number from 0 (no timeout)", f"{value!r}")
    return value / 1e6 if value else None


def mark_final(response: pb.ModelInferResponse) -> None:
    """Mark the only response to a request of a stream as the last one, as Triton does."""
    response.parameters[FINAL_RESPONSE].bool_param = True
