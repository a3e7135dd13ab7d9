"""The folders of manifests/: each is the chart with other options, as a render or as patches over one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.objects import Object, Objects
from tools.chart import render as rendering
from tools.chart.overlay import kustomization, overlay
from tools.chart.program import find, kustomize
from tools.chart.render import MANIFESTS, OVERLAYS, RENDERS


def by_name(text: str) -> dict[tuple[str, str], Object]:
    return {(each["kind"], each["metadata"]["name"]): each for each in Objects(text).all}


def test_the_manifests_are_the_chart_rendered() -> None:
    lines = rendering.differences()
    assert not lines, "make manifests\n" + "\n".join(lines)


def test_no_folder_has_files_that_are_not_made() -> None:
    made = set(rendering.rendered())
    for folder in (*RENDERS, *OVERLAYS, "crds"):
        assert set((MANIFESTS / folder).iterdir()) <= made


@pytest.mark.skipif(find("kubectl") is None, reason="kubectl is not here")
@pytest.mark.parametrize("folder", [*RENDERS, *OVERLAYS])
def test_kustomize_makes_of_each_folder_what_the_chart_renders(folder: str) -> None:
    wanted = by_name(rendering.objects((RENDERS | OVERLAYS)[folder]))
    made = by_name(kustomize(MANIFESTS / folder))
    assert made.pop(("Namespace", "triptych"))
    assert made.pop(("CustomResourceDefinition", "servedmodels.triptych.dev"))
    assert made == wanted


def document(kind: str, name: str, **more: Any) -> str:
    return f"kind: {kind}\nmetadata: {{name: {name}}}\nspec: {more}\n"


def test_an_overlay_adds_patches_and_deletes() -> None:
    base = "---\n".join([document("A", "kept", x=1), document("A", "changed", x=1, y=2), document("B", "gone")])
    wanted = "---\n".join(
        [document("A", "kept", x=1), document("A", "changed", x=3), "# Why.\n" + document("A", "new")]
    )
    difference = overlay(base, wanted)
    assert difference.added == ["# Why.\n" + document("A", "new")]
    assert difference.removed == {"B": ["gone"]}
    assert difference.patches == {
        ("A", "changed"): [{"op": "remove", "path": "/spec/y"}, {"op": "replace", "path": "/spec/x", "value": 3}]
    }
    assert "- ../base" in kustomization(difference, ["../base"])


@pytest.mark.parametrize(
    ("old", "new", "operation"),
    [
        ({"a/b~c": 1}, {}, {"op": "remove", "path": "/spec/a~1b~0c"}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {"op": "replace", "path": "/spec/a/1", "value": 3}),
        ({"a": [1, 2]}, {"a": [1]}, {"op": "replace", "path": "/spec/a", "value": [1]}),
        ({"a": {"b": 1}}, {"a": [1]}, {"op": "replace", "path": "/spec/a", "value": [1]}),
        ({}, {"a": None}, {"op": "add", "path": "/spec/a", "value": None}),
    ],
)
def test_an_operation_names_the_place(old: dict[str, Any], new: dict[str, Any], operation: dict[str, Any]) -> None:
    difference = overlay(document("A", "a", **old), document("A", "a", **new).replace("None", "null"))
    assert difference.patches == {("A", "a"): [operation]}
