"""Leader election of two replicas: one leads, the other takes over, and nothing is done twice."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from local.environments import ensure
from tests.e2e.conftest import StartReplica
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.test_served_models import Publish, document, events, settled
from tests.fakes.tcp_relay import Relay
from tests.integration.leader_change import Goes, change_leader_under_load
from tests.integration.replicas import Replicas

LEASE = "triptych-controller"


@pytest.fixture(autouse=True)
def published(publish: Publish) -> None:
    for version in (1, 2):
        publish("sales_de", version)


def leader(kubectl: Kubectl) -> str:
    """Name of the replica that holds the lease; empty if none does."""
    found = kubectl.run("get", "lease", LEASE, "--output=jsonpath={.spec.holderIdentity}", check=False)
    return found.stdout.partition("_")[0]


def test_when_the_leader_is_killed_the_other_takes_over_and_nothing_is_doubled(
    kubectl: Kubectl, replica: StartReplica
) -> None:
    first = replica("controller-0")
    wait_for(lambda: leader(kubectl) == "controller-0", "the first replica leads")
    replica("controller-1")
    kubectl.apply(document({1: 95, 2: 5}))
    before = settled(kubectl, "InForce")
    wait_for(partial(events, kubectl, "TrafficApplied"), "the event, which comes after the status")
    first.kill()
    first.wait()
    wait_for(lambda: leader(kubectl) == "controller-1", "the other one leads")
    kubectl.apply(document({1: 90, 2: 10}))
    after = settled(kubectl, "InForce")
    assert after["conditions"][0]["lastTransitionTime"] == before["conditions"][0]["lastTransitionTime"]
    wait_for(lambda: len(events(kubectl, "TrafficApplied")) >= 2, "each decision has its event")
    notes = sorted(event["note"] for event in events(kubectl, "TrafficApplied"))
    assert notes == ["in force is 1:90% 2:10%; before: 1:95% 2:5%", "in force is 1:95% 2:5%"]
    assert not any("series" in event for event in events(kubectl, "TrafficApplied"))


def test_a_leader_that_stops_cleanly_releases_its_lease_before_it_expires(
    kubectl: Kubectl, replica: StartReplica
) -> None:
    first = replica("controller-0")
    wait_for(lambda: leader(kubectl) == "controller-0", "the first replica leads")
    first.terminate()
    assert first.wait(20) == 0
    lease = kubectl.get("lease", LEASE)["spec"]
    assert lease["holderIdentity"] == ""
    replica("controller-1")
    wait_for(partial(_leads, kubectl, "controller-1"), "the next one leads")
    assert kubectl.get("lease", LEASE)["spec"]["leaseTransitions"] == 1


def test_a_leader_out_of_reach_of_the_api_server_stops_and_writes_again_when_it_is_back(
    kubectl: Kubectl, relay: Relay, replica: StartReplica, tmp_path: Path
) -> None:
    replica("controller-0")
    kubectl.apply(document({1: 100}))
    settled(kubectl, "InForce")
    relay.cut()
    log = tmp_path / "controller-0.log"
    wait_for(lambda: "leadership lost" in log.read_text(), "it knows that another may lead")
    kubectl.apply(document({1: 60, 2: 40}))
    relay.mend()
    assert settled(kubectl, "InForce")["summary"] == "1:60% 2:40%"


@pytest.mark.parametrize("goes", ["killed", "stopped"])
def test_when_the_leader_stops_during_real_loads_none_is_repeated_and_no_request_is_lost(
    kubectl: Kubectl, account: Path, tmp_path: Path, goes: Goes
) -> None:
    with Replicas(tmp_path, ensure("predictor"), account, kubectl.namespace) as replicas:
        change_leader_under_load(replicas, goes)


def _leads(kubectl: Kubectl, name: str) -> bool:
    return leader(kubectl) == name
