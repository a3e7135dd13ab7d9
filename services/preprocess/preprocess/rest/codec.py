"""Bodies of the HTTP form as messages of the gRPC form, and back.

A body is JSON, perhaps followed by binary tensors (Triton's "binary tensor data extension"). All checks of tensors are
those of the gRPC form; this module checks only what JSON adds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import Array
from triptych.errors import MAX_GOT, InvalidInput, InvalidParameter, InvalidRequest, clipped
from triptych.protocol.infer_request import RequestLimits
from triptych.protocol.parameters import decode_parameters, encode_parameter
from triptych.protocol.tensors import CONTENTS_FIELDS, decode_request, decode_response, to_raw

BINARY_SIZE: Final = "binary_data_size"
BINARY: Final = "binary_data"
BINARY_OUTPUT: Final = "binary_data_output"
_REQUEST = ("id", "inputs", "model_name", "model_version", "outputs", "parameters")
_INPUT = ("data", "datatype", "name", "parameters", "shape")
_OUTPUT = ("name", "parameters")
_SLICE: Final = 4096  # values that become JSON at once; between slices other threads run

Object = dict[str, Any]
Items = TypeVar("Items", Mapping[str, Any], Sequence[Any])


class RestRequest(NamedTuple):
    """A decoded request. `binary` says for an output whether the caller wants it behind the JSON."""

    message: pb.ModelInferRequest
    binary: Callable[[str], bool]


class RestAnswer(NamedTuple):
    """An encoded answer; `json_bytes` is None if no binary tensor follows the JSON."""

    body: bytes
    json_bytes: int | None


def decode_body(
    body: bytes | bytearray, json_bytes: int | None, model: str, version: str, limits: RequestLimits
) -> RestRequest:
    """The request of a body whose first `json_bytes` are JSON, None for all of it. Raises `InvalidRequest`."""
    end = len(body) if json_bytes is None else json_bytes
    if end > len(body):
        raise InvalidRequest(f"Inference-Header-Content-Length: want at most {len(body)}, the body's bytes, got {end}")
    document = _object(_parse(body[:end]), "the body", _REQUEST)
    for field, wanted in (("model_name", model), ("model_version", version)):
        if document.get(field) not in (None, "", wanted):
            raise InvalidRequest(f"{field}: want '{clipped(wanted)}' as in the path, or none")
    message = pb.ModelInferRequest(model_name=model, model_version=version)
    message.id = _text(document.get("id") or "", "id")
    parameters = _parameters(document, "", limits)
    binary_output = _flag(parameters.pop(BINARY_OUTPUT, False), BINARY_OUTPUT)
    _set_parameters(message.parameters, parameters)
    binary = _read_outputs(message, _list(document.get("outputs"), "outputs"), limits)
    _read_inputs(message, _list(document.get("inputs"), "inputs"), memoryview(body)[end:], limits)
    return RestRequest(message, lambda name: binary.get(name, binary_output))


def encode_answer(response: pb.ModelInferResponse, binary: Callable[[str], bool], max_json_bytes: int) -> RestAnswer:
    """The body of a response. Raises `InvalidRequest` for what JSON cannot express, and for too much of it."""
    outputs, tails, left_bytes = list[str](), list[bytes](), max_json_bytes
    for declared, (name, array) in zip(response.outputs, decode_response(response).items(), strict=True):
        output: Object = {"name": name, "datatype": declared.datatype, "shape": list(declared.shape)}
        if binary(name):
            tails.append(to_raw(array))
            outputs.append(_dumps(output | {"parameters": {BINARY_SIZE: len(tails[-1])}}))
            continue
        data = _values(name, array.ravel(), left_bytes)
        left_bytes -= len(data)
        outputs.append(f'{_dumps(output)[:-1]},"data":[{data}]}}')
    document: Object = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = decode_parameters(response.parameters)
    head = f'{_dumps(document)[:-1]},"outputs":[{",".join(outputs)}]}}'.encode()
    return RestAnswer(b"".join((head, *tails)), len(head) if tails else None)


def _dumps(document: Any) -> str:
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


_AS_BINARY = f'ask for it as binary, with "parameters": {{"{BINARY}": true}} of the output'


def _values(name: str, array: Array, max_bytes: int) -> str:
    """The values of a flat array as JSON, separated by commas, in slices: one call would hold Python's lock."""
    parts, left_bytes = list[str](), max_bytes
    for start in range(0, array.size, _SLICE):
        values: list[Any] = array[start : start + _SLICE].tolist()
        if array.dtype == object:
            if sum(map(len, values)) > left_bytes:
                raise _too_long(name)
            values = _texts(name, values)
        try:
            parts.append(_dumps(values)[1:-1])
        except ValueError:
            raise InvalidRequest(f"output '{name}' holds NaN or Infinity, which JSON has not: {_AS_BINARY}") from None
        left_bytes -= len(parts[-1])
        if left_bytes < 0:
            raise _too_long(name)
    return ",".join(parts)


def _too_long(name: str) -> InvalidRequest:
    return InvalidRequest(f"output '{name}' makes the answer's JSON longer than the limit of it: {_AS_BINARY}")


def _texts(name: str, values: Sequence[bytes]) -> list[str]:
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise InvalidRequest(f"output '{name}' is not UTF-8, which JSON needs: {_AS_BINARY}") from None


def _parse(text: bytes | bytearray) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_float=_float)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidRequest(f"want a body of JSON: {clipped(str(error), MAX_GOT)}") from None


def _float(text: str) -> float:
    """A number of JSON, not the infinity that Python makes of 1e400."""
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {clipped(text)} is larger than FP64 holds")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> Object:
    """An object whose names differ: readers of JSON disagree on which value of one name counts."""
    document = dict(pairs)
    if len(document) < len(pairs):
        seen = set[str]()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the name '{clipped(_printable(name))}' twice")
    return document


def _few(items: Items, where: str, limits: RequestLimits) -> Items:
    """The same items. Raises `InvalidRequest` for more than the limit, before any is read."""
    if len(items) > limits.items:
        raise InvalidRequest(f"want at most {limits.items} {where}, got {len(items)}")
    return items


def _read_outputs(message: pb.ModelInferRequest, outputs: Sequence[Any], limits: RequestLimits) -> dict[str, bool]:
    """Add the outputs that are asked for; return which are wanted as binary, as far as that is said."""
    binary: dict[str, bool] = {}
    for at, each in enumerate(_few(outputs, "outputs", limits)):
        output = _object(each, f"outputs[{at}]", _OUTPUT)
        name = _text(output.get("name"), f"outputs[{at}].name")
        parameters = _parameters(output, f"output '{clipped(name)}', ", limits)
        if BINARY in parameters:
            binary[name] = _flag(parameters.pop(BINARY), BINARY)
        _set_parameters(message.outputs.add(name=name).parameters, parameters)
    return binary


def _read_inputs(message: pb.ModelInferRequest, inputs: Sequence[Any], tail: memoryview, limits: RequestLimits) -> None:
    """Add the inputs: typed contents, or raw contents of all if one is binary, as the gRPC form wants it."""
    raw: list[bytes | None] = []
    for at, each in enumerate(_few(inputs, "inputs", limits)):
        document = _object(each, f"inputs[{at}]", _INPUT)
        name = _text(document.get("name"), f"inputs[{at}].name")
        declared = message.inputs.add(name=name, datatype=_text(document.get("datatype"), f"input '{clipped(name)}'"))
        _extend(declared.shape, _list(document.get("shape"), f"input '{clipped(name)}', shape"), name, "shape")
        parameters = _parameters(document, f"input '{clipped(name)}', ", limits)
        size = parameters.pop(BINARY_SIZE, None)
        _set_parameters(declared.parameters, parameters)
        if (size is None) == ("data" not in document):
            raise InvalidInput(name, f"either data or the parameter {BINARY_SIZE}", "both" if size else "none")
        if size is None:
            _set_contents(declared, name, document["data"])
            raw.append(None)
            continue
        if type(size) is not int or not 0 <= size <= len(tail):
            want = f"{BINARY_SIZE} of at most the {len(tail)} bytes that follow"
            raise InvalidInput(name, want, clipped(json.dumps(size)))
        raw.append(bytes(tail[:size]))
        tail = tail[size:]
    if tail:
        raise InvalidRequest(f"want no bytes behind the last binary tensor, got {len(tail)}")
    if any(each is not None for each in raw):
        for declared, contents in zip(message.inputs, raw, strict=True):
            message.raw_input_contents.append(_raw(declared) if contents is None else contents)
            declared.ClearField("contents")


def _raw(declared: pb.ModelInferRequest.InferInputTensor) -> bytes:
    """Typed contents as raw contents."""
    (array,) = decode_request(pb.ModelInferRequest(inputs=[declared])).values()
    return to_raw(array)


def _set_contents(declared: pb.ModelInferRequest.InferInputTensor, name: str, data: Any) -> None:
    values = _flat(name, data)
    if declared.datatype == "BYTES":
        _check_types(name, values, (str,), "strings")
        values = [_text(value, f"input '{clipped(name)}'").encode() for value in values]
    elif declared.datatype == "BOOL":
        _check_types(name, values, (bool,), "true or false")
    elif declared.datatype.startswith("FP"):
        _check_types(name, values, (int, float), "numbers")
    else:
        _check_types(name, values, (int,), "whole numbers")
    field = CONTENTS_FIELDS.get(declared.datatype)
    if field is None:
        raise InvalidInput(name, f"a datatype with values in JSON, or {BINARY_SIZE}", declared.datatype)
    declared.contents.SetInParent()
    contents = getattr(declared.contents, field)
    _extend(contents, values, name, "data")
    if declared.datatype == "FP32" and any(map(_is_too_large, values, contents)):
        raise InvalidInput(name, "numbers within FP32", "a larger one")


def _is_too_large(value: float, taken: float) -> bool:
    """Whether protobuf made infinity of a number, as of 1e39 in FP32."""
    return math.isinf(taken) and not math.isinf(value)


def _extend(field: Any, values: Sequence[Any], name: str, what: str) -> None:
    try:
        field.extend(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(name, f"{what} of whole numbers in range", clipped(str(error), MAX_GOT)) from None


def _flat(name: str, data: Any) -> list[Any]:
    """The elements of nested lists, in row-major order."""
    if not isinstance(data, list):
        raise InvalidInput(name, "data as a list", f"a value of type {_type_name(data)}")
    while data and isinstance(data[0], list):
        if not all(isinstance(each, list) for each in data):
            raise InvalidInput(name, "lists of the same depth", "a list with lists and other values")
        data = [value for part in data for value in part]
    return list(data)


def _check_types(name: str, values: Iterable[Any], types: Collection[type], want: str) -> None:
    if wrong := {type(value) for value in values} - set(types):
        raise InvalidInput(name, want, f"a value of type {min(map(_TYPES.__getitem__, wrong))}")


_TYPES = {
    dict: "object",
    list: "list",
    str: "string",
    bool: "true or false",
    int: "whole number",
    float: "number",
    type(None): "null",
}


def _type_name(value: object) -> str:
    return _TYPES[type(value)]


def _parameters(document: Object, where: str, limits: RequestLimits) -> Object:
    return dict(_few(_mapping(document.get("parameters"), f"{where}parameters"), "parameters", limits))


def _set_parameters(field: Any, parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        if not isinstance(value, (bool, int, float, str)):
            raise InvalidParameter(name, "a string, a number, true or false", f"a value of type {_type_name(value)}")
        try:
            field[name].CopyFrom(encode_parameter(value))
        except ValueError as error:  # a number of more than 64 bits, or half of a surrogate pair
            raise InvalidParameter(_printable(name), "a value of the protocol", clipped(str(error), MAX_GOT)) from None


def _object(value: Any, where: str, known: Collection[str]) -> Object:
    document = dict(_mapping(value, where, required=True))
    if unknown := document.keys() - set(known):
        name = clipped(_printable(min(unknown)))
        raise InvalidRequest(f"{where}: unknown field '{name}'; there are: {', '.join(known)}")
    return document


def _mapping(value: Any, where: str, *, required: bool = False) -> Mapping[str, Any]:
    if value is None and not required:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: want an object, got a value of type {_type_name(value)}")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest(f"{where}: want a list, got a value of type {_type_name(value)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: want a string, got a value of type {_type_name(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{where}: want valid Unicode, got half of a surrogate pair") from None
    return value


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameter(name, "true or false", f"a value of type {_type_name(value)}")
    return value
