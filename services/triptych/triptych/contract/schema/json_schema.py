"""JSON Schema of a contract for editors, and the table of steps for the documentation, both from the classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, Final

from triptych.contract.schema.contract import Contract
from triptych.contract.schema.declarations import STEP_MARK
from triptych.contract.steps.base import Step
from triptych.contract.steps.registry import built_in_steps, vocabulary
from triptych.contract.steps.step_file import FILE_PATTERN

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def contract_schema(*, built_in: bool = False) -> dict[str, Any]:
    """Schema of contract.yaml, with every installed step, or only those of this package."""
    steps = _steps(built_in)
    schema = Contract.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    for op, step in steps.items():
        own = step.model_json_schema()
        definitions.update(own.pop("$defs", {}))
        definitions[f"step_{op}"] = own
    definitions["Step"] = _step_schema(steps)
    finished: dict[str, Any] = _plain({"$schema": _DIALECT, **schema})
    return finished


def contract_schema_text(*, built_in: bool = False) -> str:
    """Text of the file docs/contract.schema.json, which has the steps of this package."""
    return json.dumps(contract_schema(built_in=built_in), indent=2, ensure_ascii=False) + "\n"


def _steps(built_in: bool) -> Mapping[str, type[Step]]:
    return built_in_steps() if built_in else vocabulary()


def _step_schema(steps: Mapping[str, type[Step]]) -> dict[str, Any]:
    """Schema of a step by `op`, with if and then, so that an editor reports faults of that step only."""
    cases = [{"if": {"properties": {"op": {"const": op}}}, "then": {"$ref": f"#/$defs/step_{op}"}} for op in steps]
    names = {"enum": list(steps), "description": "name of the step"}
    return {"type": "object", "required": ["op"], "properties": {"op": names}, "allOf": cases}


def _plain(node: Any) -> Any:
    """Replace step marks by references, and dedent docstrings for tooltips."""
    if node == STEP_MARK:
        return {"$ref": "#/$defs/Step"}
    if isinstance(node, dict):
        return {
            key: cleandoc(value) if key == "description" and isinstance(value, str) else _plain(value)
            for key, value in node.items()
        }
    return [_plain(item) for item in node] if isinstance(node, list) else node


def steps_table(*, built_in: bool = False) -> str:
    """Table of every step with its fields, as Markdown."""
    return "\n".join(_section(op, step) for op, step in _steps(built_in).items())


def _section(op: str, step: type[Step]) -> str:
    lines = [f"### `{op}`", "", cleandoc(step.__doc__ or ""), ""]
    lines += ["| field | value | default | |", "|---|---|---|---|"]
    schema = step.model_json_schema()
    definitions = schema.get("$defs", {})
    for name, field in schema["properties"].items():
        if name == "op":
            continue
        default = "required" if name in schema.get("required", ()) else _default(field)
        note = field.get("description", "")
        lines.append(f"| `{name}` | {_value(field, definitions)} | {default} | {note} |")
    return "\n".join([*lines, ""])


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _value(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Values of a field in a few words: `whole number, 1 to 16384`."""
    if "$ref" in field:
        return "`{parameter: name}`"
    for alternatives in ("anyOf", "oneOf"):
        if alternatives in field:
            texts = [_value(a, definitions) for a in field[alternatives] if a.get("type") != "null"]
            return " or ".join(dict.fromkeys(texts))
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field.get("type") == "array" and "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} times {_value(field['prefixItems'][0], definitions)}"
    if field.get("type") == "array":
        return f"list of ({_value(field['items'], definitions)})"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    text = "name" if "pattern" in field else words[field["type"]]
    if field.get("pattern") == FILE_PATTERN:
        text = "file"
    low, high = field.get("minimum"), field.get("maximum")
    if low is None and high is None:
        return text
    return f"{text}, {low} to {high}" if low is not None and high is not None else f"{text}, from {low}"
