"""Every value has an effect, and files generated from the values are up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.metrics import ControllerMetrics
from tests.chart.leaves import LEAVES, QUEUED, beside, changed, with_value
from tests.chart.objects import Render
from tools.chart import describe
from tools.chart.program import CHART, ROOT
from triptych.telemetry.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing


# These contradict what goes with another of their values: test_options.py, test_backend.py and test_tls.py have them.
@pytest.mark.parametrize("name", sorted(LEAVES.keys() - {"models.store", "backend.features.store", "tls.mode"}))
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


def test_a_list_without_a_word_about_what_it_holds_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text("# Names.\nnames: []\n")
    with pytest.raises(describe.Undescribed, match=re.escape(f"{file}:2: names: say what the list holds")):
        describe.read(file)


def test_the_picture_of_helm_test_is_that_of_the_examples() -> None:
    name = "three_note.png"
    assert (CHART / "files" / name).read_bytes() == (ROOT / "examples/data" / name).read_bytes()


def test_the_dashboard_and_the_autoscalers_ask_for_series_that_exist(render: Render) -> None:
    stage = StageMetrics("preprocess", Tracing())
    ControllerMetrics(stage.registry)
    known = _series(stage.registry) | {"nv_inference_queue_duration_us"}  # Triton's, documented in its metrics.md
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queued = dict.fromkeys(("preprocess", "predictor", "postprocess"), QUEUED)
    scaled = render({**queued, "metrics": {"prometheus": "http://p:9090"}}).of("ScaledObject")
    asked += [each["spec"]["triggers"][0]["metadata"]["query"] for each in scaled.values()]
    names = {name for query in asked for name in re.findall(r"\b(?:triptych|nv)_\w+", query)}
    assert len(asked) > 15
    assert names - known == set()


def _series(registry: CollectorRegistry) -> set[str]:
    made = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + suffix for family in registry.collect() for suffix in made.get(family.type, ())}
