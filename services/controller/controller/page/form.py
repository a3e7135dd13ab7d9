"""The form that tries a version: a field for each input and parameter of its contract, and what was typed into it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from triptych.contract import Contract, InputSpec, ParameterSpec, Scalar
from triptych.contract.schema.examples import Example, arrays_of, one_row
from triptych.contract.verification.trial import made_up_inputs
from triptych.datatypes import Array

MAX_PREFILLED: Final = 1_000  # values that a field shows of an example, or makes up


class WrongForm(ValueError):
    """A field has no value of its kind; the text says what is wanted."""


@dataclass(frozen=True)
class Field:
    """One field. `kind` is "file" (files, or JSON beside them), "rows" (JSON) or "parameter"."""

    name: str
    kind: str
    wanted: str
    description: str
    value: str = ""


@dataclass(frozen=True)
class Typed:
    """A form that was sent: texts and files by the name of their field."""

    texts: Mapping[str, str]
    files: Mapping[str, Sequence[bytes]]


def fields_of(contract: Contract, typed: Typed | None = None) -> list[Field]:
    """The fields of a contract, with what was typed; before that with the first example, or a made-up row."""
    example = next(iter(contract.examples or ()), None)
    inputs = _example_rows(contract, example) if typed is None else {}
    before: Mapping[str, str] = typed.texts if typed is not None else {}
    fields = [
        Field(
            spec.name,
            "file" if spec.datatype == "BYTES" else "rows",
            f"{spec.text}{'' if spec.required else ', optional'}",
            spec.description,
            before.get(spec.name, inputs.get(spec.name, "")),
        )
        for spec in contract.inputs
    ]
    return fields + [_parameter(spec, example, before) for spec in contract.parameters]


def request_of(contract: Contract, typed: Typed) -> tuple[dict[str, Array], dict[str, Scalar]]:
    """Inputs and parameters of a request. Raises `WrongForm`."""
    rows = {spec.name: found for spec in contract.inputs if (found := _rows(spec, typed))}
    try:
        inputs = arrays_of(contract.inputs, rows)
    except ValueError as error:
        raise WrongForm(str(error)) from None
    texts = {spec: typed.texts.get(spec.name, "").strip() for spec in contract.parameters}
    return inputs, {spec.name: _scalar(spec, text) for spec, text in texts.items() if text}


def _example_rows(contract: Contract, example: Example | None) -> dict[str, str]:
    if example is not None:
        rows = dict(example.inputs)
    else:
        made_up = {spec.name for spec in contract.inputs if spec.required and spec.datatype != "BYTES"}
        rows = {name: array.tolist() for name, array in made_up_inputs(contract, 1).items() if name in made_up}
    return {name: text for name, value in rows.items() if len(text := json.dumps(value)) <= 16 * MAX_PREFILLED}


def _parameter(spec: ParameterSpec, example: Example | None, before: Mapping[str, str]) -> Field:
    default = example.parameters.get(spec.name, spec.default) if example is not None else spec.default
    text = default if isinstance(default, str) else json.dumps(default)
    return Field(spec.name, "parameter", spec.want, spec.description, before.get(spec.name, text))


def _rows(spec: InputSpec, typed: Typed) -> list[Any]:
    """The rows of an input, as a contract's example lists them; empty without any."""
    text = typed.texts.get(spec.name, "").strip()
    if files := typed.files.get(spec.name):
        values: list[Any] = [{"base64": base64.b64encode(content).decode()} for content in files]
    elif text.startswith("["):
        rows: list[Any] = _json(spec.name, text)
        return rows
    elif spec.datatype == "BYTES":
        values = text.splitlines()
    else:
        values = [_json(spec.name, text)] if text else []
    return [row for value in values for row in one_row(spec, value)]


def _scalar(spec: ParameterSpec, text: str) -> Scalar:
    if spec.type == "string":
        return text
    value: Scalar = _json(spec.name, text)
    return value


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WrongForm(f"'{name}': want JSON, as in [[1.5, 2]]: {error}") from None
