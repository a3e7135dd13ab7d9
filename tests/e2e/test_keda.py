"""KEDA and Prometheus: each stage scales on its own queue, by the chart's queries, up and down."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Figure
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import STAGES, START_S, Release
from tests.integration.conftest import Caller
from tests.integration.load import Load, answers
from tests.integration.messages import infer_request, sales

REQUEST = infer_request("sales_forecast_de", sales(rows=16))
CALLERS = 24
MOST = 2
ADDRESS = "http://prometheus.monitoring.svc:9090"


def on_queue(cpu: str, **more: Any) -> dict[str, Any]:
    scaling = {"maxReplicas": MOST, "signal": "queue", "scaleDownAfterSeconds": 15} | more
    return {"autoscaling": scaling, "resources": {"requests": {"cpu": "50m"}, "limits": {"cpu": cpu}}}


# A slow Triton, so that requests wait for it in preprocess; postprocess has nothing to wait for.
VALUES = {
    "preprocess": on_queue("1", inFlight=8),
    "predictor": on_queue("400m", queueMilliseconds=100),
    "postprocess": on_queue("1", inFlight=8),
    "metrics": {"prometheus": ADDRESS, "window": "20s"},
}


class Prometheus:
    """Query interface of the Prometheus that KEDA uses."""

    def __init__(self, kubeconfig: Path) -> None:
        service = Kubectl(kubeconfig, "monitoring").get("service", "prometheus")["spec"]
        self._url = f"http://{service['clusterIP']}:{service['ports'][0]['port']}/api/v1/query"

    def value(self, query: str) -> float | None:
        """Value of a query; None if it finds nothing."""
        with urllib.request.urlopen(f"{self._url}?{urllib.parse.urlencode({'query': query})}", timeout=10) as response:
            found = json.load(response)["data"]["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.fixture
def prometheus(kubeconfig: Path) -> Prometheus:
    needed = (("crd", "scaledobjects.keda.sh", "default"), ("service", "prometheus", "monitoring"))
    for kind, name, namespace in needed:
        if Kubectl(kubeconfig, namespace).run("get", kind, name, check=False).returncode:
            pytest.skip(f"needs KEDA and Prometheus, and there is no {kind} {name}: cluster up --with keda,prometheus")
    return Prometheus(kubeconfig)


def query_of(release: Release, stage: str) -> str:
    """Query of KEDA's trigger for a stage."""
    (trigger,) = release.kubectl.get("scaledobject", stage)["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


def is_followed(release: Release, stage: str) -> bool:
    """Whether KEDA reads the trigger of a stage."""
    found = release.kubectl.get("scaledobject", stage).get("status", {}).get("conditions", ())
    return {each["type"]: each["status"] for each in found}.get("Ready") == "True"


def wanted_pods(release: Release, stage: str) -> int:
    """Pods that KEDA's autoscaler has last requested."""
    return int(release.kubectl.get("horizontalpodautoscaler", f"keda-hpa-{stage}")["status"]["desiredReplicas"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stages_grow_on_their_own_queues_and_shrink_when_these_are_empty(
    new_release: Callable[[str, str], Release], prometheus: Prometheus, figure: Figure
) -> None:
    release = new_release("keda", "Standard")
    release.apply(VALUES)
    for stage in STAGES:
        release.wait_until_settled(stage)
        wait_for(partial(is_followed, release, stage), f"KEDA reads the trigger of {stage}", START_S)
    caller = release.gateway().caller()
    wait_for(lambda: answers(caller, REQUEST), "the first answer", START_S)
    start = time.monotonic()
    with Load(caller, REQUEST, callers=CALLERS) as load:
        for stage in ("predictor", "preprocess"):
            wait_for(partial(release.settled, stage, MOST), f"{MOST} pods of {stage}", START_S)
            value = prometheus.value(query_of(release, stage))
            figure(f"{MOST} pods of {stage} {time.monotonic() - start:.0f} s after the load began, at {value}")
            assert value
        assert wanted_pods(release, "postprocess") == 1
        assert prometheus.value(query_of(release, "postprocess")) is not None
    figure(f"{len(load.answers)} answered by {CALLERS} callers while they grew, refused: {load.refusals[:3]}")
    assert not load.refusals
    start = time.monotonic()
    for stage in ("predictor", "preprocess"):
        wait_for(partial(release.settled, stage), f"one pod of {stage}", START_S)
    figure(f"one pod of each {time.monotonic() - start:.0f} s after the load ended")
    assert answers(Caller(release.service().address), REQUEST)
    release.uninstall()
