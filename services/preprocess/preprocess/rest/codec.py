"""Bodies of the HTTP form as messages of the gRPC form, and back.

A body is JSON, perhaps followed by binary tensors (Triton's "binary tensor data extension"). All checks of tensors are
those of the gRPC form; this module checks only what JSON adds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tritonclient.grpc import service_pb2 as pb

from triptych.datatypes import Array
from triptych.errors import MAX_GOT, InvalidInput, InvalidParameter, InvalidRequest, clipped
from triptych.protocol.parameters import decode_parameters, encode_parameter
from triptych.protocol.tensors import CONTENTS_FIELDS, decode_request, decode_response, to_raw

BINARY_SIZE: Final = "binary_data_size"
BINARY: Final = "binary_data"
BINARY_OUTPUT: Final = "binary_data_output"
_REQUEST = ("id", "inputs", "model_name", "model_version", "outputs", "parameters")
_INPUT = ("data", "datatype", "name", "parameters", "shape")
_OUTPUT = ("name", "parameters")

Object = dict[str, Any]


class RestRequest(NamedTuple):
    """A decoded request. `binary` says for an output whether the caller wants it behind the JSON."""

    message: pb.ModelInferRequest
    binary: Callable[[str], bool]


class RestAnswer(NamedTuple):
    """An encoded answer; `json_bytes` is None if no binary tensor follows the JSON."""

    body: bytes
    json_bytes: int | None


def decode_body(body: bytes, json_bytes: int | None, model: str, version: str) -> RestRequest:
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
    parameters = dict(_mapping(document.get("parameters"), "parameters"))
    binary_output = _flag(parameters.pop(BINARY_OUTPUT, False), BINARY_OUTPUT)
    _set_parameters(message.parameters, parameters)
    binary = _read_outputs(message, _list(document.get("outputs"), "outputs"))
    _read_inputs(message, _list(document.get("inputs"), "inputs"), memoryview(body)[end:])
    return RestRequest(message, lambda name: binary.get(name, binary_output))


def encode_answer(response: pb.ModelInferResponse, binary: Callable[[str], bool]) -> RestAnswer:
    """The body of a response. Raises `InvalidRequest` for values that JSON cannot express."""
    outputs, tails = list[Object](), list[bytes]()
    for declared, (name, array) in zip(response.outputs, decode_response(response).items(), strict=True):
        output: Object = {"name": name, "datatype": declared.datatype, "shape": list(declared.shape)}
        if binary(name):
            tails.append(to_raw(array))
            output["parameters"] = {BINARY_SIZE: len(tails[-1])}
        else:
            output["data"] = _values(name, array)
        outputs.append(output)
    document: Object = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = decode_parameters(response.parameters)
    try:
        head = json.dumps(document | {"outputs": outputs}, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise InvalidRequest(f"an output holds NaN or Infinity, which JSON has not: {_AS_BINARY}") from None
    return RestAnswer(b"".join((head, *tails)), len(head) if tails else None)


_AS_BINARY = f'ask for it as binary, with "parameters": {{"{BINARY}": true}} of the output'


def _values(name: str, array: Array) -> list[Any]:
    values: list[Any] = array.ravel().tolist()
    if array.dtype != object:
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise InvalidRequest(f"output '{name}' is not UTF-8, which JSON needs: {_AS_BINARY}") from None


def _parse(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InvalidRequest(f"want a body of JSON: {clipped(str(error), MAX_GOT)}") from None


def _read_outputs(message: pb.ModelInferRequest, outputs: Sequence[Any]) -> dict[str, bool]:
    """Add the outputs that are asked for; return which are wanted as binary, as far as that is said."""
    binary: dict[str, bool] = {}
    for at, each in enumerate(outputs):
        output = _object(each, f"outputs[{at}]", _OUTPUT)
        name = _text(output.get("name"), f"outputs[{at}].name")
        parameters = dict(_mapping(output.get("parameters"), f"output '{clipped(name)}', parameters"))
        if BINARY in parameters:
            binary[name] = _flag(parameters.pop(BINARY), BINARY)
        _set_parameters(message.outputs.add(name=name).parameters, parameters)
    return binary


def _read_inputs(message: pb.ModelInferRequest, inputs: Sequence[Any], tail: memoryview) -> None:
    """Add the inputs: typed contents, or raw contents of all if one is binary, as the gRPC form wants it."""
    raw: list[bytes | None] = []
    for at, each in enumerate(inputs):
        document = _object(each, f"inputs[{at}]", _INPUT)
        name = _text(document.get("name"), f"inputs[{at}].name")
        declared = message.inputs.add(name=name, datatype=_text(document.get("datatype"), f"input '{clipped(name)}'"))
        _extend(declared.shape, _list(document.get("shape"), f"input '{clipped(name)}', shape"), name, "shape")
        parameters = dict(_mapping(document.get("parameters"), f"input '{clipped(name)}', parameters"))
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
    _extend(getattr(declared.contents, field), values, name, "data")


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
        name = clipped(min(unknown))
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
