"""The chart's values.schema.json and README.md, out of the comments of its values.yaml: the one hand-written source.

    python tools/chart/describe.py helm/triptych [OUT]

A comment describes the key below it. Its lines that begin with `@` are JSON Schema in YAML; what they leave out is
taken from the default. A mapping is closed: only the keys that values.yaml has are values.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

KEY = re.compile(r"^( *)([A-Za-z]\w*):(.*)$")
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
YAML_SAFE = YAML(typ="safe", pure=True)


@dataclass
class Value:
    """One key of values.yaml, with what its comment says."""

    path: tuple[str, ...]
    default: Any
    text: str
    schema: dict[str, Any]
    members: dict[str, Value] = field(default_factory=dict)

    def as_schema(self) -> dict[str, Any]:
        """Its JSON Schema."""
        made: dict[str, Any] = {"description": self.text} if self.text else {}
        made |= {"type": TYPES[type(self.default)]} | self.schema
        if "$ref" in self.schema:
            return self.schema  # draft 7 looks at nothing beside it
        if self.members:
            made["properties"] = {name: member.as_schema() for name, member in self.members.items()}
            made["additionalProperties"] = False
        return made

    def leaves(self) -> Iterator[Value]:
        """The values below it that have no members, or itself."""
        if not self.members:
            yield self
        for member in self.members.values():
            yield from member.leaves()


class Undescribed(Exception):
    """A comment is missing or wrong; the text names the line."""


def read(file: Path) -> Value:
    """The tree of a values.yaml. Raises `Undescribed`."""
    text = file.read_text("utf-8")
    top = Value((), YAML_SAFE.load(text), "", {})
    comment: list[str] = []
    inside: list[Value] = [top]
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
        elif found := KEY.match(line):
            depth = len(found[1]) // 2 + 1
            if depth > len(inside):
                continue  # inside of a value that is free
            del inside[depth:]
            value = _value(inside[-1], found[2], comment, f"{file}:{number}")
            inside[-1].members[found[2]] = value
            if not found[3].strip() and not _is_free(value):
                inside.append(value)
            comment = []
        else:
            comment = []
    return top


def _value(parent: Value, name: str, comment: list[str], where: str) -> Value:
    text = " ".join(line for line in comment if not line.startswith("@"))
    try:
        schema = YAML_SAFE.load(" ".join(line[1:] for line in comment if line.startswith("@"))) or {}
    except Exception as error:
        raise Undescribed(f"{where}: {name}: not YAML after `@`: {error}") from error
    value = Value((*parent.path, name), parent.default[name], text, schema)
    if value.default == [] and "items" not in schema:
        raise Undescribed(f"{where}: {name}: say what the list holds: `# @ {{items: ...}}`")
    if value.default == {} and not {"additionalProperties", "$ref"} & schema.keys():
        raise Undescribed(f"{where}: {name}: say what the mapping holds: `# @ {{additionalProperties: ...}}`")
    return value


def _is_free(value: Value) -> bool:
    return not isinstance(value.default, dict) or bool({"additionalProperties", "$ref"} & value.schema.keys())


def schema(top: Value) -> str:
    """values.schema.json."""
    made = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart"}
    body = top.as_schema()
    body["properties"]["global"] = {"description": "Given by Helm to a chart inside of another.", "type": "object"}
    return json.dumps(made | body, indent=2) + "\n"


def readme(top: Value, template: str) -> str:
    """README.md: `template` with a table of values for each group."""
    parts = [_table("", [member for member in top.members.values() if not member.members])]
    for name, group in top.members.items():
        if group.members:
            parts.append(_table(f"### {name}\n\n{group.text}\n\n".replace("\n\n\n", "\n"), list(group.leaves())))
    return template.replace("{values}", "\n".join(parts).strip())


def _table(title: str, values: list[Value]) -> str:
    rows = [f"| `{'.'.join(value.path)}` | `{_shown(value.default)}` | {_cell(value)} |" for value in values]
    return title + "\n".join(["| value | default | what it is |", "|---|---|---|", *rows]) + "\n"


def _shown(default: Any) -> str:
    return json.dumps(default).replace("|", "\\|")


def _cell(value: Value) -> str:
    choices = value.schema.get("enum")
    shown = [" One of " + ", ".join(f"`{choice}`" for choice in choices if choice) + "."] if choices else []
    return "".join([value.text.replace("|", "\\|"), *shown]).strip()


def main() -> int:
    chart = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else chart
    try:
        top = read(chart / "values.yaml")
    except Undescribed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    (out / "values.schema.json").write_text(schema(top), "utf-8")
    (out / "README.md").write_text(readme(top, (chart / "README.tpl").read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
