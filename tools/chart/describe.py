"""Generate the chart's values.schema.json and README.md from the comments of its values.yaml.

    python -m tools.chart.describe helm/triptych [OUT]

A comment describes the key below it. Its lines that begin with `@` are JSON Schema in YAML; the type comes from the
default. A mapping is closed: a key that values.yaml lacks is refused.

A key of a group without a comment has the schema of the same key at the top, as `preprocess.nodeSelector` has that of
`nodeSelector`.

Null removes a key in Helm. A value that may be empty may therefore be null; every other key is required. The values of
a canary are differences, so their schema (`#/definitions/preprocess`) requires nothing.
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
DEFINITIONS = "#/definitions/"
LARGEST_INTEGER = 2**31 - 1  # of most fields of Kubernetes, and of a user's number
ANCHORS = r"^(x-|\.)"
# Keys that a parent chart adds to those of values.yaml.
OF_PARENT_CHARTS = {
    "enabled": {"description": "For the `condition` of a parent chart. No effect here.", "type": "boolean"},
    "global": {
        "description": "Values of a parent chart for all its charts. Read here: imageRegistry, imagePullSecrets.",
        "type": "object",
        "properties": {
            "imageRegistry": {"type": "string"},
            "imagePullSecrets": {"type": "array", "items": {"type": ["string", "object"], "required": ["name"]}},
        },
    },
}
YAML_SAFE = YAML(typ="safe", pure=True)


@dataclass
class Value:
    """One key of values.yaml, with its comment as text and schema."""

    path: tuple[str, ...]
    default: Any
    text: str
    schema: dict[str, Any]
    members: dict[str, Value] = field(default_factory=dict)

    def as_schema(self, *, partial: bool = False) -> dict[str, Any]:
        """JSON Schema of the value. `partial`: no key is required."""
        made: dict[str, Any] = {"description": self.text} if self.text else {}
        made |= {"type": TYPES[type(self.default)]} | self.schema
        if made["type"] == "integer":
            made.setdefault("maximum", LARGEST_INTEGER)
        if "$ref" in self.schema:
            return self.schema  # draft 7 ignores the siblings of a reference
        if self.members:
            made["properties"] = {name: member.as_schema(partial=partial) for name, member in self.members.items()}
            made["additionalProperties"] = False
            if not partial:
                made["required"] = [name for name, member in self.members.items() if not member.may_be_null()]
        return made

    def may_be_null(self) -> bool:
        """Whether null, which removes the key, has a meaning: that of empty."""
        if self.members:
            return False
        if isinstance(self.default, dict | list):
            return True
        if "enum" in self.schema:
            return "" in self.schema["enum"]
        if "string" not in (self.schema.get("type") or TYPES[type(self.default)]):
            return False
        return not self.schema.get("minLength") and bool(re.search(self.schema.get("pattern", ""), ""))

    def leaves(self) -> Iterator[Value]:
        """The values below it that have no members, or itself."""
        if not self.members:
            yield self
        for member in self.members.values():
            yield from member.leaves()


class Undescribed(Exception):
    """A comment is missing or wrong. The message names the line."""


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
            value = _inherited(top, inside[-1], found[2]) if not comment else None
            value = value or _value(inside[-1], found[2], comment, f"{file}:{number}")
            inside[-1].members[found[2]] = value
            if not found[3].strip() and not _is_free(value):
                inside.append(value)
            comment = []
        else:
            comment = []
    return top


def _inherited(top: Value, parent: Value, name: str) -> Value | None:
    """The value of a key of a stage, described by the same key at the top. None if there is no such key."""
    path = (*parent.path, name)
    found = (_at(top, path[depth:]) for depth in range(1, len(path)))
    same = next((each for each in found if each is not None and not each.members), None)
    if same is None:
        return None
    schema = {"$ref": "#/" + "/".join(f"properties/{word}" for word in same.path)}
    return Value(path, parent.default[name], f"Like `{'.'.join(same.path)}`, for these pods.", schema)


def _at(top: Value, path: tuple[str, ...]) -> Value | None:
    same: Value | None = top
    for word in path:
        same = same.members.get(word) if same else None
    return same


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
    body["properties"] |= OF_PARENT_CHARTS
    body["patternProperties"] = {ANCHORS: {"description": "A place for anchors of YAML. No effect."}}
    differences = sorted({leaf.schema.get("$ref", "") for leaf in top.leaves()})
    names = [ref.removeprefix(DEFINITIONS) for ref in differences if ref.startswith(DEFINITIONS)]
    body["definitions"] = {name: top.members[name].as_schema(partial=True) for name in names}
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
    return title + "\n".join(["| value | default | description |", "|---|---|---|", *rows]) + "\n"


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
