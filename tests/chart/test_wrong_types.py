"""A value of another type than its default is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.leaves import LEAVES, TOP, with_value
from tests.chart.objects import Render
from tests.chart.test_empty_values import dotted, groups
from tools.chart.program import ProgramFailed

WRONG: dict[str, Any] = {
    "string": "text",
    "integer": 7,
    "number": 1.5,
    "boolean": True,
    "array": ["text"],
    "object": {"key": "text"},
}
GROUPS = [dotted(group) for group in groups()]


def types(name: str) -> set[str]:
    """The JSON types that a value may have."""
    if name in GROUPS:
        return {"object"}
    leaf = LEAVES[name]
    schema: Any = leaf.schema
    if "$ref" in schema:
        default = leaf.default
        return {"object"} if isinstance(default, dict) else {"array"}
    found = leaf.as_schema()["type"]
    known = {found} if isinstance(found, str) else set(found)
    return known | ({"integer"} if "number" in known else set())


# One render tells of all wrong values that have no wrong one above them.
@pytest.mark.parametrize("wrong", WRONG)
def test_a_value_of_a_wrong_type_is_refused_by_name(render: Render, wrong: str) -> None:
    names = sorted(name for name in LEAVES if wrong not in types(name))
    values: dict[str, Any] = {}
    for name in names:
        values = with_value(values, name, WRONG[wrong])
    with pytest.raises(ProgramFailed) as refused:
        render(values)
    silent = [name for name in names if f"at '/{name.replace('.', '/')}': " not in str(refused.value)]
    assert not silent
    assert len(names) > 50


@pytest.mark.parametrize("wrong", [wrong for wrong in WRONG if wrong != "object"])
def test_a_group_of_a_wrong_type_is_refused_by_name(render: Render, wrong: str) -> None:
    names = [name for name in TOP.members if name in GROUPS]
    with pytest.raises(ProgramFailed) as refused:
        render(dict.fromkeys(names, WRONG[wrong]))
    assert not [name for name in names if f"at '/{name}': " not in str(refused.value)]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"tolerations": [None]}, "/tolerations/0"),
        ({"imagePullSecrets": [{"name": None}]}, "/imagePullSecrets/0/name"),
        ({"extraEnv": [{"name": "A", "value": None}]}, "/extraEnv/0/value"),
        ({"servedModels": [{"model": None}]}, "/servedModels/0/model"),
        ({"gateway": {"parents": [{}]}}, "/gateway/parents/0"),
        ({"podLabels": {"team": None}}, "/podLabels/team"),
        ({"preprocess": {"settings": {"log_level": None}}}, "/preprocess/settings/log_level"),
    ],
)
def test_null_within_a_list_or_mapping_is_refused_by_name(render: Render, values: dict[str, Any], place: str) -> None:
    with pytest.raises(ProgramFailed, match=f"at '{place}'"):
        render(values)
