"""Codec between request parameters and Python values, and fields that this version of the protocol does not have."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from tritonclient.grpc import service_pb2 as pb

from triptych.errors import MAX_WORD, InvalidParameter

Parameter = int | float | bool | str


def decode_parameters(parameters: Mapping[str, pb.InferParameter]) -> dict[str, Parameter]:
    """Request parameters as Python values. Raises `InvalidParameter` for one without a value."""
    values: dict[str, Parameter] = {}
    if not parameters:
        return values
    for name, parameter in parameters.items():
        if len(name) > MAX_WORD:
            raise InvalidParameter(name, f"a name of at most {MAX_WORD} characters", f"{len(name)}")
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidParameter(name, "a value", "none")
        values[name] = getattr(parameter, kind)
    return values


def encode_parameter(value: Parameter) -> pb.InferParameter:
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    return pb.InferParameter(string_param=value)


def unknown_field(message: Message) -> int | None:
    """Number of a field that this version of the protocol does not have; None without one."""
    unknown = UnknownFieldSet(message)
    return int(unknown[0].field_number) if len(unknown) else None
