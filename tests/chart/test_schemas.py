"""Validation of the committed manifests by the schemas of a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tools.chart.program import find
from tools.chart.render import MANIFESTS, RENDERS
from tools.chart.schemas import NotChecked, check, kinds, manifests, schema, with_chart_crds

META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OPENAPI: dict[str, Any] = {
    "definitions": {
        META: {"type": "object", "properties": {"name": {"type": "string"}}},
        "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": "string"},
        "example.Toy": {
            "x-kubernetes-group-version-kind": [{"group": "toys.example.com", "version": "v1beta1", "kind": "Toy"}],
            "type": "object",
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"$ref": f"#/definitions/{META}"},
                "spec": {"$ref": "#/definitions/example.Spec"},
            },
        },
        "example.Spec": {
            "type": "object",
            "properties": {
                "size": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.api.resource.Quantity"},
                "port": {"type": "string", "format": "int-or-string"},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "inner": {"type": "array", "items": {"$ref": "#/definitions/example.Spec"}},
            },
        },
    }
}
GOOD = {"size": 1, "port": 80, "free": {"a": 1}, "labels": {"a": "b"}, "inner": [{"size": "1Gi"}]}


def toy(folder: Path, spec: Any, version: str = "toys.example.com/v1beta1") -> list[Path]:
    file = folder / "toy.yaml"
    file.write_text(json.dumps({"apiVersion": version, "kind": "Toy", "metadata": {"name": "a"}, "spec": spec}))
    return [file]


@pytest.fixture(autouse=True)
def _kubeconform() -> None:
    if find("kubeconform") is None:
        pytest.skip("needs kubeconform: python3 -m local.programs kubeconform")


def test_what_the_schemas_know_is_right(tmp_path: Path) -> None:
    assert kinds(OPENAPI) == {"toy-toys-v1beta1.json": "example.Toy"}
    assert check(toy(tmp_path, GOOD), OPENAPI) == ""


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (GOOD | {"sise": 1}, "additional properties 'sise' not allowed"),
        (GOOD | {"size": []}, "at '/spec/size'"),
        (GOOD | {"labels": {"a": 1}}, "at '/spec/labels/a'"),
        ([], "at '/spec'"),
    ],
)
def test_what_they_do_not_know_is_named_with_its_place(tmp_path: Path, spec: Any, sentence: str) -> None:
    assert sentence in check(toy(tmp_path, spec), OPENAPI)


def test_a_kind_without_a_schema_is_an_error(tmp_path: Path) -> None:
    assert "could not find schema for Toy" in check(toy(tmp_path, GOOD, "toys.example.com/v2"), OPENAPI)


def test_a_schema_that_refers_to_itself_ends() -> None:
    inner = schema(OPENAPI, "example.Toy")["properties"]["spec"]["properties"]["inner"]
    assert inner == {"type": "array", "items": {}}


def test_the_charts_own_kinds_are_known_before_the_cluster_knows_them(tmp_path: Path) -> None:
    example = MANIFESTS / "examples" / "canary.yaml"
    assert "could not find schema for ServedModel" in check([example], OPENAPI)
    assert check([example], with_chart_crds(OPENAPI)) == ""
    typo = tmp_path / "typo.yaml"
    typo.write_text(example.read_text("utf-8").replace("traffic:", "trafic:"), "utf-8")
    assert "'trafic' not allowed" in check([typo], with_chart_crds(OPENAPI))


def test_without_kubeconform_nothing_is_reported_as_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.chart.schemas.find", lambda _: None)
    with pytest.raises(NotChecked, match="kubeconform is missing"):
        check(toy(tmp_path, GOOD), OPENAPI)


def test_every_committed_object_is_checked_and_no_patch_or_kustomization_is() -> None:
    names = {f"{file.parent.name}/{file.name}" for file in manifests()}
    assert {f"{folder}/triptych.yaml" for folder in RENDERS} | {"lane/added.yaml"} < names
    assert {"crds/servedmodels.yaml", "examples/canary.yaml", "autoscaling/preprocess.yaml"} < names
    assert not [name for name in names if "kustomization" in name or "promotion" in name]
