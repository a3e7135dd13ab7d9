"""Every value does something, and the files that are made from the values are as they would be made now."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.metrics import ControllerMetrics
from tests.chart.objects import Render
from tools.chart import describe
from tools.chart.program import CHART, ROOT
from triptych.telemetry.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

LEAVES = {".".join(leaf.path): leaf for leaf in describe.read(CHART / "values.yaml").leaves()}

NVIDIA = {"image": "nvcr.io/nvidia/tritonserver:25.10-py3", "gpus": 1}
SCALED = {"autoscaling": {"maxReplicas": 3}}
ROUTED = {"enabled": True, "parents": [{"name": "public"}]}
QUEUED = {"autoscaling": {"maxReplicas": 3, "signal": "queue"}}

REDIS = {"store": "redis", "url": "redis://redis:6379/0"}
FEAST = {"store": "feast", "url": "http://feast:6566", "service": "articles"}
STORE: dict[str, Any] = {"models": {"store": "s3", "uri": "s3://bucket/models"}}

# Where a value has no effect by itself: the values beside which it has one, by the beginning of its name.
BESIDE: dict[str, dict[str, Any]] = {
    "preprocess.autoscaling.signal": {"preprocess": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "predictor.autoscaling.signal": {"predictor": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "postprocess.autoscaling.signal": {"postprocess": SCALED, "metrics": {"prometheus": "http://p:9090"}},
    "preprocess.autoscaling.cpuPercent": {"preprocess": SCALED},
    "predictor.autoscaling.cpuPercent": {"predictor": SCALED},
    "postprocess.autoscaling.cpuPercent": {"postprocess": SCALED},
    "preprocess.autoscaling.scaleDown": {"preprocess": SCALED},
    "predictor.autoscaling.scaleDown": {"predictor": SCALED},
    "postprocess.autoscaling.scaleDown": {"postprocess": SCALED},
    "preprocess.autoscaling.inFlight": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "postprocess.autoscaling.inFlight": {"postprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "predictor.autoscaling.queue": {"predictor": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "preprocess.autoscaling.concurrency": {"mode": "Knative"},
    "postprocess.autoscaling.concurrency": {"mode": "Knative"},
    "predictor.gpus": {"predictor": {"image": NVIDIA["image"]}},
    "predictor.gpuResource": {"predictor": NVIDIA},
    "models.claim": {"models": {"store": "pvc", "claim": "models"}},
    "models.path": {"models": {"store": "pvc", "claim": "models"}},
    "models.uri": STORE,
    "models.endpoint": STORE,
    "models.region": STORE,
    "models.secret": STORE,
    "models.pollSeconds": STORE,
    "models.mirror.resources": STORE,
    "backend.": {"backend": {"enabled": True}},
    "backend.enabled": {},
    "backend.autoscaling.": {"backend": {"enabled": True} | SCALED},
    "backend.features.": {"backend": {"enabled": True, "features": REDIS}},
    "backend.features.articles": {"backend": {"enabled": True}},
    "backend.features.secret": {"backend": {"enabled": True, "features": {"store": "redis", "secret": "redis"}}},
    "backend.features.service": {"backend": {"enabled": True, "features": FEAST}},
    "gateway.enabled": {"gateway": {"parents": [{"name": "public"}]}},
    "gateway.": {"gateway": {"enabled": True, "parents": [{"name": "public"}]}},
    "canary.": {"gateway": ROUTED, "canary": {"enabled": True, "preprocess": {"replicas": 1}}},
    "canary.enabled": {"gateway": ROUTED, "canary": {"preprocess": {"replicas": 1}}},
    "canary.models": {
        "gateway": ROUTED,
        "canary": {"enabled": True, "preprocess": {"replicas": 1}, "postprocess": {"replicas": 1}},
    },
    "tls.secret": {"tls": {"mode": "tls", "secret": "certificates"}},
    "tls.issuer": {"tls": {"mode": "tls", "issuer": {"name": "ca"}}},
    "metrics.serviceMonitor.enabled": {},
    "metrics.serviceMonitor.": {"metrics": {"serviceMonitor": {"enabled": True}}},
    "metrics.dashboard.enabled": {},
    "metrics.dashboard.": {"metrics": {"dashboard": {"enabled": True}}},
    "metrics.window": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
    "metrics.prometheus": {"preprocess": QUEUED, "metrics": {"prometheus": "http://p:9090"}},
}

# Other values than the rule below makes.
CHANGED: dict[str, Any] = {
    "mode": "Deployment",
    "fullnameOverride": "other",
    "models.uri": "s3://bucket/other",
    "models.endpoint": "http://minio:9000",
    "backend.features.url": "redis://other:6379/0",
    "backend.features.articles": {"FR": {"boot": {"history": []}}},
    "predictor.args": ["--log-verbose=1"],
    "predictor.sharedMemory": "1Gi",
    "imagePullSecrets": [{"name": "registry"}],
    "metrics.serviceMonitor.interval": "30s",
    "metrics.window": "2m",
    "gateway.parents": [{"name": "other"}],
    "gateway.hostnames": ["api.example.com"],
    "network.ipFamilies": ["IPv6"],
    "networkPolicy.callers": [{"podSelector": {}}],
    "networkPolicy.scrapers": [{"podSelector": {}}],
}
CHANGED |= {f"canary.{stage}": {"replicas": 7} for stage in ("preprocess", "predictor", "postprocess")}
CHANGED["tls.issuer"] = {"name": "other"}
CHANGED["canary.models"] = {"image": "triptych/models:2"}
CHANGED["servedModels"] = CHANGED["canary.servedModels"] = [
    {"model": "digits_gb", "traffic": [{"version": 2, "percent": 100}]}
]
for _place in ("", *(f"{stage}." for stage in ("preprocess", "predictor", "postprocess", "controller", "backend"))):
    CHANGED[f"{_place}affinity"] = {"nodeAffinity": {}}
    CHANGED[f"{_place}tolerations"] = [{"key": "gpu", "operator": "Exists"}]
    CHANGED[f"{_place}extraEnv"] = [{"name": "HTTPS_PROXY", "value": "http://proxy"}]
    CHANGED[f"{_place}extraVolumes"] = [{"name": "ca", "configMap": {"name": "ca"}}]
    CHANGED[f"{_place}extraVolumeMounts"] = [{"name": "ca", "mountPath": "/etc/ca"}]
    BESIDE[f"{_place}extraVolumeMounts"] = {"extraVolumes": CHANGED[f"{_place}extraVolumes"]}
BESIDE["backend.extraVolumeMounts"] |= {"backend": {"enabled": True}}
for _stage in ("preprocess", "predictor", "postprocess"):
    CHANGED[f"{_stage}.mode"] = "Deployment"
    CHANGED[f"{_stage}.autoscaling.signal"] = "queue"
for _stage in ("preprocess", "predictor", "postprocess", "controller"):
    CHANGED[f"{_stage}.resources"] = {"requests": {"cpu": "333m"}}
    CHANGED[f"{_stage}.settings"] = {"log_level": "DEBUG"}
    CHANGED[f"{_stage}.shutdown.terminationGracePeriodSeconds"] = 77


def changed(name: str) -> Any:
    """Another value for a leaf."""
    if name in CHANGED:
        return CHANGED[name]
    leaf = LEAVES[name]
    if "enum" in leaf.schema:
        return next(choice for choice in leaf.schema["enum"] if choice not in ("", leaf.default))
    if isinstance(leaf.default, bool):
        return not leaf.default
    if isinstance(leaf.default, int | float):
        return leaf.default + 1
    return {"key": "value"} if isinstance(leaf.default, dict) else "changed"


def beside(name: str) -> dict[str, Any]:
    found = [prefix for prefix in BESIDE if name.startswith(prefix)]
    return copy.deepcopy(BESIDE[max(found, key=len)]) if found else {}


# These contradict what goes with another of their values: test_options.py, test_backend.py and test_tls.py have them.
@pytest.mark.parametrize("name", sorted(LEAVES.keys() - {"models.store", "backend.features.store", "tls.mode"}))
def test_every_value_changes_the_render(render: Render, name: str) -> None:
    values = beside(name)
    other = copy.deepcopy(values)
    place = other
    *groups, last = name.split(".")
    for group in groups:
        place = place.setdefault(group, {})
    place[last] = changed(name)
    assert render(values).text != render(other).text


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
