"""Every value has an effect, and the files that are generated from the values are up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.metrics import ControllerMetrics
from jobs.metrics import JobsMetrics
from local.environments import ROOT
from tests.chart.leaves import LEAVES, QUEUED, beside, changed, with_value
from tests.chart.objects import Render
from tools.chart import describe
from tools.chart.program import CHART
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

# The first three contradict what goes with another of their values: test_options.py, test_backend.py and test_tls.py
# have them. The last one is only checked: test_names.py.
ELSEWHERE = {"models.store", "backend.features.store", "tls.mode", "kserve.domainTemplate"}


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - ELSEWHERE))
def test_every_value_changes_the_render(render: Render, name: str) -> None:
    values = beside(name)
    assert render(values).text != render(with_value(values, name, changed(name))).text


def test_every_value_says_what_it_is() -> None:
    silent = [name for name, leaf in LEAVES.items() if not leaf.text and "enum" not in leaf.schema]
    known = {"terminationGracePeriodSeconds", "enabled", "interval"}
    assert [name for name in silent if name.rsplit(".", 1)[-1] not in known] == []


def test_the_readme_and_the_schema_are_made_from_the_values() -> None:
    top = describe.read(CHART / "values.yaml")
    assert (CHART / "values.schema.json").read_text() == describe.schema(top)
    assert (CHART / "README.md").read_text() == describe.readme(top, (CHART / "README.tpl").read_text())


def test_a_list_without_a_schema_of_its_items_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# Names.\nnames: []\n")
    with pytest.raises(describe.Undescribed, match=re.escape(f"{file}:2: names: say what the list holds")):
        describe.read(file)


VALUES = """\
# Labels.
# @ {additionalProperties: {type: string}}
labels: {}

# A stage.
stage:
  # How many.
  # @ {minimum: 1}
  replicas: 1
  # Where. Empty: anywhere.
  # @ {pattern: "^[a-z]*$"}
  zone: a
  labels: {}

# A canary.
# @ {$ref: "#/definitions/stage"}
canary: {}
"""


@pytest.fixture
def described(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "values.yaml"
    file.write_text(VALUES)
    schema: dict[str, Any] = json.loads(describe.schema(describe.read(file)))
    return schema


def test_a_key_without_a_comment_is_described_by_the_same_key_at_the_top(
    described: dict[str, Any], tmp_path: Path
) -> None:
    assert described["properties"]["stage"]["properties"]["labels"] == {"$ref": "#/properties/labels"}
    readme = describe.readme(describe.read(tmp_path / "values.yaml"), "{values}")
    assert "| `stage.labels` | `{}` | Like `labels`, for these pods. |" in readme


def test_keys_that_may_not_be_empty_are_required_but_not_of_a_canary(described: dict[str, Any]) -> None:
    assert described["required"] == ["stage"]
    assert described["properties"]["stage"]["required"] == ["replicas"]
    differences = described["definitions"]["stage"]
    assert "required" not in differences
    assert differences["properties"] == described["properties"]["stage"]["properties"]


def test_the_picture_of_helm_test_is_that_of_the_examples() -> None:
    name = "three_note.png"
    assert (CHART / "files" / name).read_bytes() == (ROOT / "examples/data" / name).read_bytes()


def test_the_dashboard_and_the_autoscalers_ask_for_series_that_exist(render: Render) -> None:
    stage = StageMetrics("preprocess", Tracing())
    ControllerMetrics(stage.registry)
    JobsMetrics(stage.registry)
    known = _series(stage.registry) | {"nv_inference_queue_duration_us"}  # Triton's, documented in its metrics.md
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queued = dict.fromkeys(("preprocess", "predictor", "postprocess"), QUEUED)
    scaled = render({**queued, "metrics": {"prometheus": "http://p:9090"}}).of("ScaledObject")
    asked += [each["spec"]["triggers"][0]["metadata"]["query"] for each in scaled.values()]
    names = {name for query in asked for name in re.findall(r"\b(?:triptych|nv)_\w+", query)}
    assert len(asked) > 15
    assert names - known == set()
    release = 'namespace="$namespace", app_kubernetes_io_instance=~"$release"'
    assert all(release in target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def _series(registry: CollectorRegistry) -> set[str]:
    made = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in registry.collect() for suffix in made.get(family.type, ())}
