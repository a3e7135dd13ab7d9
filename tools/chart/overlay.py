"""A render of the chart as a kustomization over another render: added objects, and patches for the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML

Object = dict[str, Any]
Operation = dict[str, Any]


@dataclass
class Overlay:
    """The difference of two renders. Patches are JSON Patch (RFC 6902) by the kind and name of their object."""

    added: list[str] = field(default_factory=list)
    removed: dict[str, list[str]] = field(default_factory=dict)
    patches: dict[tuple[str, str], list[Operation]] = field(default_factory=dict)


def overlay(base: str, wanted: str) -> Overlay:
    """Compare two streams of YAML documents. Objects are the same if kind and name are."""
    old = {_key(made): made for _, made in _documents(base)}
    difference = Overlay()
    for text, made in _documents(wanted):
        before = old.pop(_key(made), None)
        if before is None:
            difference.added.append(text)
        elif operations := list(_operations(before, made, "")):
            difference.patches[_key(made)] = operations
    for kind, name in old:
        difference.removed.setdefault(kind, []).append(name)
    return difference


def kustomization(difference: Overlay, resources: list[str]) -> str:
    """The text of a kustomization.yaml."""
    lines = ["apiVersion: kustomize.config.k8s.io/v1beta1", "kind: Kustomization", "resources:"]
    lines += [f"  - {resource}" for resource in resources]
    if difference.removed or difference.patches:
        lines.append("patches:")
    for kind, names in difference.removed.items():
        lines += [f'  - target: {{kind: {kind}, name: "{"|".join(names)}"}}', "    patch: |-"]
        lines += ["      $patch: delete", f"      kind: {kind}", "      metadata: {name: any}"]
    for (kind, name), operations in difference.patches.items():
        lines += [f"  - target: {{kind: {kind}, name: {name}}}", "    patch: |-"]
        lines += [f"      - {json.dumps(operation)}" for operation in operations]
    return "\n".join(lines) + "\n"


def _documents(text: str) -> Iterator[tuple[str, Object]]:
    yaml = YAML(typ="safe", pure=True)
    for part in re.split(r"^---\n", text, flags=re.MULTILINE):
        if made := yaml.load(part):
            yield part, made


def _key(made: Object) -> tuple[str, str]:
    return made["kind"], made["metadata"]["name"]


def _operations(old: Any, new: Any, path: str) -> Iterator[Operation]:
    """The operations that make `new` of `old`. Lists of unequal length are replaced as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old:
            if name not in new:
                yield {"op": "remove", "path": f"{path}/{_escaped(name)}"}
        for name, value in new.items():
            place = f"{path}/{_escaped(name)}"
            if name in old:
                yield from _operations(old[name], value, place)
            else:
                yield {"op": "add", "path": place, "value": value}
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _operations(before, after, f"{path}/{index}")
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
