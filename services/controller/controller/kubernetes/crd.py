"""`python -m controller.kubernetes.crd`: print the definition of ServedModel, generated from its schema.

It checks what a webhook would check: types and ranges by OpenAPI, the rest by rules in CEL.
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import FoldedScalarString

from controller.catalog.served_model import GROUP, KIND, PLURAL, VERSION, ServedModel, Spec
from controller.kubernetes.status import Status

Json = dict[str, Any]

HEADER = "# Generated from controller.catalog.served_model: make crd\n"
_UNUSED = ("title",)
_COLUMNS = (
    ("Model", "string", ".spec.model", "Folder in the model repository.", 0),
    ("Traffic", "string", ".status.summary", "Shares in force; after an arrow, those of the spec.", 0),
    ("Aliases", "string", ".status.aliasSummary", "Aliases of versions.", 0),
    ("Replicas", "integer", ".status.replicas", "Predictors that have every version in traffic loaded.", 0),
    (
        "Ready",
        "string",
        '.status.conditions[?(@.type=="Ready")].status',
        "Whether the traffic of the spec is in force.",
        0,
    ),
    ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason', "Why it is not.", 0),
    ("Release", "string", ".spec.release", "Release that serves it; empty: the one without a fullnameOverride.", 0),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', "The same as a sentence.", 1),
    ("Age", "date", ".metadata.creationTimestamp", "Time since its creation.", 0),
)


def definition() -> Json:
    """The CustomResourceDefinition, with exactly the fields that the API server stores.

    A field that it adds or drops would be a difference for `kubectl diff` and a conflict for a server-side apply.
    """
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": name, "type": kind, "jsonPath": path, "description": text}
            | ({"priority": priority} if priority else {})
            for name, kind, path, text, priority in _COLUMNS
        ],
        "schema": {"openAPIV3Schema": _object()},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["sm"],
                "categories": ["triptych"],
            },
            "versions": [version],
            "conversion": {"strategy": "None"},
        },
    }


def structural(model: type[BaseModel]) -> Json:
    """The schema of a pydantic model as Kubernetes takes it: no references, no null, integers of 64 bits."""
    schema = model.model_json_schema(by_alias=True)
    return _flat(schema, schema.get("$defs", {}))


def _without_defaults(node: Any) -> Any:
    """The schema without defaults: only the controller writes the status."""
    if isinstance(node, dict):
        return {key: _without_defaults(value) for key, value in node.items() if key != "default"}
    return node


def main() -> None:
    """Print the definition as YAML."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.indent(mapping=2, sequence=4, offset=2)
    sys.stdout.write(HEADER)
    yaml.dump(_folded(definition()), sys.stdout)


def _object() -> Json:
    text = {
        "apiVersion": "Version of this schema: the group, and the version in it.",
        "kind": f"The kind of the object: {KIND}.",
    }
    head = {name: {"type": "string", "description": description} for name, description in text.items()}
    parts = {"metadata": {"type": "object"}, "spec": structural(Spec), "status": _without_defaults(structural(Status))}
    return {
        "type": "object",
        "description": " ".join((ServedModel.__doc__ or "").split()),
        "required": ["spec"],
        "properties": head | parts,
    }


def _flat(schema: Json, definitions: Json) -> Json:
    """One level of the schema with those below it."""
    if reference := schema.pop("$ref", None):
        schema = definitions[reference.rpartition("/")[2]] | schema
    if choices := schema.get("anyOf"):
        (choice,) = (choice for choice in choices if choice != {"type": "null"})
        schema = choice | {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    schema = {key: value for key, value in schema.items() if key not in _UNUSED and not key.startswith("$")}
    if schema["type"] == "integer":
        schema["format"] = "int64"
        if (limit := schema.pop("exclusiveMaximum", None)) is not None:
            schema["maximum"] = limit - 1
    if schema["type"] in ("object", "array") or schema.get("default") == "":
        schema.pop("default", None)
    if values := schema.pop("additionalProperties", False):  # false: a structural schema is closed by itself
        schema["additionalProperties"] = _flat(dict(values), definitions)
    if properties := schema.get("properties"):
        schema["properties"] = {name: _flat(dict(part), definitions) for name, part in properties.items()}
    if items := schema.get("items"):
        schema["items"] = _flat(dict(items), definitions)
    return schema


def _folded(node: Any) -> Any:
    """The same with long texts folded over several lines."""
    if isinstance(node, dict):
        return {key: _folded(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_folded(value) for value in node]
    return FoldedScalarString(node) if isinstance(node, str) and len(node) > 70 else node


if __name__ == "__main__":
    main()
