"""Example objects in manifests/examples, read by the controller."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from controller.catalog.served_model import Document, read_documents
from tests.chart.objects import Objects, Render
from tools.chart.program import find, kustomize
from tools.chart.render import MANIFESTS

REVISIONS = sorted((MANIFESTS / "examples").glob("*.yaml"))


@pytest.mark.parametrize("file", REVISIONS, ids=lambda file: str(file.stem))
def test_an_example_of_a_revision_is_a_valid_servedmodel(file: Path) -> None:
    documents = list(read_documents(file))
    assert len(documents) == 1
    assert isinstance(documents[0], Document), documents[0]


def test_a_rollback_names_a_version_of_the_canary() -> None:
    def traffic(name: str) -> dict[int, int]:
        spec = YAML(typ="safe", pure=True).load(MANIFESTS / "examples" / f"{name}.yaml")["spec"]
        return {each["version"]: each["percent"] for each in spec["traffic"]}

    assert traffic("canary") == {1: 95, 2: 5}
    assert traffic("new-revision") == {1: 100, 2: 0}
    assert traffic("rollback") == {1: 100}


@pytest.mark.skipif(find("kubectl") is None, reason="kubectl is not here")
@pytest.mark.parametrize("stage", ["preprocess", "postprocess"])
def test_a_promotion_gives_the_stable_stage_what_its_canary_has(stage: str) -> None:
    lane = Objects(kustomize(MANIFESTS / "lane"))
    stable, canary = (
        lane.one("InferenceService", name)["spec"]["predictor"]["containers"][0] for name in (stage, f"{stage}-canary")
    )
    image, test, revision = YAML(typ="safe", pure=True).load(MANIFESTS / "examples/promotion" / f"{stage}.yaml")
    container = "/spec/predictor/containers/0"
    assert image == {"op": "replace", "path": f"{container}/image", "value": canary["image"]}
    assert test == {"op": "test", "path": f"{container}/env/0/name", "value": stable["env"][0]["name"]}
    assert canary["env"][0] == {"name": f"{stage.upper()}_REVISION", "value": "2"}
    assert revision == {"op": "replace", "path": f"{container}/env/0/value", "value": "2"}


def test_the_example_of_autoscaling_is_the_hpa_of_the_chart(render: Render) -> None:
    example = Objects((MANIFESTS / "examples/autoscaling/preprocess.yaml").read_text())
    chart = render({"preprocess": {"autoscaling": {"maxReplicas": 4}}})
    wanted = chart.one("HorizontalPodAutoscaler", "preprocess")["spec"]
    assert example.one("HorizontalPodAutoscaler", "preprocess")["spec"] == wanted
