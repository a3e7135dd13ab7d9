"""Disturbances of pods under constant load, with two replicas of each stage: no answer is lost or wrong.

Half of the load goes to the Service, where a connection stays on one pod, and half through the gateway.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.load import CheckedRequest, Load
from tests.e2e.release import STAGES, START_S, Release, is_ready
from tests.integration.load import answers
from tests.integration.messages import infer_request, noise_picture, objects, sales

PARTS = (*STAGES, "controller")
REPLICAS = {"preprocess": 2, "predictor": 2, "postprocess": 2, "controller": 1}
VALUES: dict[str, Any] = {stage: {"replicas": 2} for stage in STAGES}
# Something that restarts a stage and changes no answer.
CHANGED: dict[str, dict[str, Any]] = {
    "preprocess": {"settings": {"contract_cache": 9_999}},
    "predictor": {"args": ["--log-verbose=0"]},
    "postprocess": {"settings": {"max_in_flight": 511}},
    "controller": {"settings": {"max_watchers": 1023}},
}
WARM = [
    *(infer_request(f"sales_forecast_{code}", sales(rows=2, seed=7)) for code in ("de", "fr", "jp", "us")),
    *(infer_request(f"digits_{code}", {"image": objects(noise_picture())}) for code in ("de", "fr")),
]
PER_SECOND = 60


class Served:
    """A release with two replicas of each stage, all ready before and after each disturbance."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.values: dict[str, Any] = {part: dict(values) for part, values in VALUES.items()}
        self.endpoints = [release.service(), release.service(), release.gateway(), release.gateway()]
        self.requests: list[CheckedRequest] = []

    def wait_until_whole(self, without: frozenset[str] = frozenset(), changed: tuple[str, ...] = ()) -> None:
        for part in PARTS:
            self.release.wait_until_settled(part, REPLICAS[part], without if part in changed else frozenset())

    def change(self, *parts: str) -> None:
        """Upgrade with other settings for these parts, and wait until only pods with them are left."""
        old = frozenset().union(*map(self.release.uids, parts))
        for part in parts:
            again = CHANGED[part].keys() <= self.values.get(part, {}).keys()
            self.values.setdefault(part, {}).update(CHANGED[part])
            if again:
                for name in CHANGED[part]:
                    del self.values[part][name]
        self.release.apply(self.values)
        self.wait_until_whole(old, parts)

    def oldest(self, part: str) -> str:
        pods = sorted(self.release.pods(part), key=lambda pod: pod["metadata"]["creationTimestamp"])
        return next(str(pod["metadata"]["name"]) for pod in pods if is_ready(pod))

    def load(self) -> Load:
        return Load(self.endpoints, self.requests, PER_SECOND)


@pytest.fixture(scope="module")
def served(new_release: Callable[[str, str], Release]) -> Iterator[Served]:
    release = new_release("disturbances", "Standard")
    release.apply(VALUES)
    for part in PARTS:
        release.wait_until_settled(part, REPLICAS[part])
    served = Served(release)
    for endpoint in (release.service(), release.gateway()):
        caller = endpoint.caller()
        wait_for(partial(answers, caller, WARM[0]), f"{endpoint.name} answers", START_S)
    served.requests = [CheckedRequest.of(caller, request) for request in WARM]
    yield served
    release.uninstall()


@pytest.fixture
def release(served: Served) -> Release:
    """The release, for the evidence of a failed test."""
    return served.release


def under_load(served: Served, disturb: Callable[[], object], figure: Figure) -> None:
    """Disturb the release under load, and assert that no answer is lost."""
    served.wait_until_whole()
    start = time.monotonic()
    with served.load() as load:
        disturb()
        served.wait_until_whole()
    figure(f"{load.account}; {time.monotonic() - start:.0f} s")
    load.assert_nothing_was_lost()


pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.usefixtures("release")]


@pytest.mark.parametrize("stage", STAGES)
def test_a_rolling_update_of_a_stage_loses_nothing(served: Served, stage: str, figure: Figure) -> None:
    under_load(served, lambda: served.change(stage), figure)


@pytest.mark.parametrize("part", PARTS)
def test_the_deletion_of_a_pod_loses_nothing(served: Served, part: str, figure: Figure) -> None:
    under_load(served, lambda: served.release.kubectl("delete", "pod", served.oldest(part)), figure)


@pytest.mark.parametrize("stage", STAGES)
def test_the_eviction_of_a_pod_loses_nothing(served: Served, stage: str, figure: Figure) -> None:
    def evict() -> None:
        name, kubectl = served.oldest(stage), served.release.kubectl
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{name}/eviction"
        kubectl("create", "--raw", path, "--filename=-", given=json.dumps(eviction))
        gone = kubectl.run("wait", "--for=delete", f"pod/{name}", "--timeout=55s", check=False)
        assert not gone.returncode, gone.stderr

    under_load(served, evict, figure)


@pytest.mark.parametrize("stage", ["predictor", "postprocess"])
def test_a_stage_behind_preprocess_that_is_killed_at_once_loses_nothing(
    served: Served, stage: str, figure: Figure
) -> None:
    """Kill without preStop and grace, as a node under pressure does. Calls in flight are retried elsewhere."""
    kill = ("delete", "pod", "--force", "--grace-period=0")
    under_load(served, lambda: served.release.kubectl(*kill, served.oldest(stage)), figure)


@pytest.fixture
def retrying(served: Served) -> Iterator[Served]:
    """A release behind a gateway that retries unanswered requests."""
    kubectl = served.release.kubectl
    if kubectl.run("get", "backendtrafficpolicies", check=False).returncode:
        pytest.skip("needs Envoy Gateway: the cluster has no BackendTrafficPolicy")
    served.values["gateway"] = served.release.values()["gateway"] | {"retries": 2}
    served.release.apply(served.values)

    def accepted() -> bool:
        parents = kubectl.get("backendtrafficpolicy", "preprocess").get("status", {}).get("ancestors", ())
        conditions = [each for parent in parents for each in parent["conditions"]]
        return any(each["type"] == "Accepted" and each["status"] == "True" for each in conditions)

    wait_for(accepted, "the gateway takes the policy", START_S)
    yield served
    del served.values["gateway"]
    served.release.apply(served.values)


def test_a_preprocess_that_is_killed_at_once_loses_nothing_behind_a_gateway_that_retries(
    retrying: Served, figure: Figure
) -> None:
    kill, endpoint = ("delete", "pod", "--force", "--grace-period=0"), retrying.release.gateway()
    retrying.wait_until_whole()
    with Load([endpoint, endpoint, endpoint], retrying.requests, PER_SECOND) as load:
        retrying.release.kubectl(*kill, retrying.oldest("preprocess"))
        retrying.wait_until_whole()
    figure(load.account)
    load.assert_nothing_was_lost()


def test_an_upgrade_that_changes_everything_loses_nothing(served: Served, figure: Figure) -> None:
    under_load(served, lambda: served.change(*PARTS), figure)
