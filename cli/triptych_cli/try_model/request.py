"""The request that is tried: from the command line, a file, an example of the contract, or made up."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.contract import Contract, Scalar
from triptych.contract.reading.files import FileError, read_text
from triptych.contract.schema.examples import arrays_of, one_row
from triptych.contract.specs import ParameterSpec, TensorSpec
from triptych.contract.verification.trial import made_up_inputs
from triptych.datatypes import Array

MAX_REQUEST_BYTES = 64 << 20
DOCUMENT = '{"inputs": {NAME: [rows]}, "parameters": {...}}'


class WrongData(ValueError):
    """The data of a request cannot be read; the text says what is wanted."""


@dataclass(frozen=True)
class Request:
    """Inputs and parameters as a caller would send them, and where they came from."""

    inputs: Mapping[str, Array]
    parameters: Mapping[str, Scalar]
    source: str


def request_of(contract: Contract, words: Sequence[str]) -> Request:
    """The request of `NAME=VALUE` words, or of one JSON file. Without words an example, or one made-up row.

    Raises `WrongData` and `OSError`.
    """
    try:
        if not words:
            return _without_data(contract)
        if len(words) == 1 and "=" not in words[0]:
            return _of_document(contract, words[0])
        return _of_words(contract, words)
    except ValueError as error:
        raise error if isinstance(error, WrongData) else WrongData(str(error)) from None


def _without_data(contract: Contract) -> Request:
    if not contract.examples:
        return Request(made_up_inputs(contract, 1), {}, "a made-up row")
    example = contract.examples[0]
    inputs = arrays_of(contract.inputs, example.inputs)
    return Request(inputs, example.parameters, f"the example '{example.name}' of the contract")


def _of_document(contract: Contract, source: str) -> Request:
    if not Path(source).exists():
        raise WrongData(f"want NAME=VALUE, or one JSON file alone, got '{source}', which is no file")
    document = _json(_text(Path(source)), f"{source}: want JSON, as in {DOCUMENT}")
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), dict):
        raise WrongData(f"{source}: want {DOCUMENT}")
    return Request(
        arrays_of(contract.inputs, document["inputs"]), document.get("parameters") or {}, f"that of {source}"
    )


def _of_words(contract: Contract, words: Sequence[str]) -> Request:
    inputs: dict[str, list[Any]] = {}
    parameters: dict[str, Scalar] = {}
    specs = {spec.name: spec for spec in contract.inputs}
    known_parameters = {spec.name: spec for spec in contract.parameters}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise WrongData(f"want NAME=VALUE, or one JSON file alone, got '{word}'")
        if name in specs:
            inputs.setdefault(name, []).extend(_rows(specs[name], value))
        elif name in known_parameters:
            parameters[name] = _scalar(known_parameters[name], value)
        else:
            known = ", ".join([*specs, *known_parameters])
            raise WrongData(f"'{name}' is no input or parameter of the contract; there are: {known}")
    return Request(arrays_of(contract.inputs, inputs), parameters, "that of the command line")


def _rows(spec: TensorSpec, value: str) -> list[Any]:
    """The rows of a value: lists of JSON, or one row of a number, or for BYTES of a file or the text itself."""
    if value.startswith("["):
        return list(_json(value, _wanted(spec, value)))
    if spec.datatype != "BYTES":
        return one_row(spec, _json(value, _wanted(spec, value)))
    path = Path(value)
    return one_row(spec, _bytes(path.read_bytes()) if path.is_file() else value)


def _scalar(spec: ParameterSpec, value: str) -> Scalar:
    if spec.type == "string" and not value.startswith('"'):
        return value
    scalar: Scalar = _json(value, f"'{spec.name}': want {spec.want}, got {value!r:.80}")
    return scalar


def _bytes(data: bytes) -> Any:
    return {"base64": base64.b64encode(data).decode()}


def _text(file: Path) -> str:
    try:
        return read_text(file, most=MAX_REQUEST_BYTES)
    except FileError as error:
        raise WrongData(f"{file}: {error}") from None


def _wanted(spec: TensorSpec, value: str) -> str:
    quotes = ", words in double quotes" if spec.datatype == "BYTES" else ""
    return f"'{spec.name}': want {spec.text} in JSON{quotes}, got {value!r:.80}"


def _json(text: str, wanted: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongData(f"{wanted}: {error}") from None
