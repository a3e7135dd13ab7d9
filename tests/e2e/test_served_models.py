"""ServedModels in a cluster: applied, refused, changed and deleted, with their status and events."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import StartReplica
from tests.e2e.kubectl import Kubectl, wait_for
from tests.fakes.tcp_relay import Relay
from tests.model_folders import served_model

Publish = Callable[..., Path]
Json = dict[str, Any]


def document(traffic: dict[int, int], model: str = "sales_de", name: str = "") -> str:
    return served_model(model, traffic, name=name)


@pytest.fixture(autouse=True)
def published(publish: Publish) -> None:
    """Publish two versions of two models."""
    for model in ("sales_de", "sales_fr"):
        for version in (1, 2):
            publish(model, version)


def status(kubectl: Kubectl, name: str = "sales-de") -> Json:
    return dict(kubectl.get("servedmodel", name).get("status") or {})


def condition(of: Json, kind: str) -> Json:
    return next((dict(each) for each in of.get("conditions", ()) if each["type"] == kind), {})


def settled(kubectl: Kubectl, reason: str, name: str = "sales-de", kind: str = "Ready") -> Json:
    """Wait for a status of the newest generation whose condition has this reason."""

    def look() -> Json | None:
        served = kubectl.get("servedmodel", name)
        now: Json = served.get("status") or {}
        newest = now.get("observedGeneration") == served["metadata"]["generation"]
        return now if newest and condition(now, kind).get("reason") == reason else None

    return wait_for(look, f"{name}: {kind} is {reason}")


def events(kubectl: Kubectl, reason: str) -> list[Json]:
    return [event for event in kubectl.get("events.events.k8s.io")["items"] if event["reason"] == reason]


def test_an_applied_document_is_in_force_and_says_so(kubectl: Kubectl, replica: StartReplica) -> None:
    replica()
    kubectl.apply(document({1: 95, 2: 5}))
    now = settled(kubectl, "InForce")
    assert now["traffic"] == [{"version": 1, "percent": 95}, {"version": 2, "percent": 5}]
    assert now["versions"][1]["readyOn"] == ["198.18.0.1:8001"]
    columns = kubectl("get", "sm", "sales-de", "--no-headers")
    assert re.match(r"sales-de +sales_de +1:95% 2:5% +1 +True +InForce +\d+s", columns)
    kubectl("wait", "--for=condition=Ready", "--timeout=10s", "servedmodel/sales-de")
    (event,) = wait_for(partial(events, kubectl, "TrafficApplied"), "an event says that the traffic is in force")
    assert event["note"] == "in force is 1:95% 2:5%"
    assert event["type"] == "Normal"
    assert "TrafficApplied" in kubectl("describe", "servedmodel", "sales-de")


def test_a_version_that_is_not_there_is_refused_in_status_and_the_traffic_stays(
    kubectl: Kubectl, replica: StartReplica
) -> None:
    replica()
    kubectl.apply(document({1: 100}))
    settled(kubectl, "InForce")
    kubectl.apply(document({1: 50, 7: 50}))
    now = settled(kubectl, "UnknownVersion")
    assert now["traffic"] == [{"version": 1, "percent": 100}]
    assert now["summary"] == "1:100% -> 1:50% 7:50%"
    assert "has no valid version 7; it has 1, 2" in condition(now, "Valid")["message"]
    (event,) = wait_for(partial(events, kubectl, "UnknownVersion"), "an event says why")
    assert event["type"] == "Warning"


def test_aliases_of_two_writers_are_in_one_object(kubectl: Kubectl, replica: StartReplica) -> None:
    replica()
    person, registry = (
        ("apply", "--server-side", f"--field-manager={name}", "--filename=-") for name in ("person", "registry")
    )
    kubectl(*person, given=served_model("sales_de", {1: 100}, aliases="production: 1"))
    head = "apiVersion: triptych.dev/v1alpha1\nkind: ServedModel\nmetadata: {name: sales-de}\n"
    kubectl(*registry, given=head + "spec: {aliases: {next: 2, gone: 9}}")
    now = settled(kubectl, "UnknownVersion", kind="AliasesResolved")
    assert "gone: model 'sales_de' has no valid version 9" in condition(now, "AliasesResolved")["message"]
    assert condition(now, "Ready")["status"] == condition(now, "Valid")["status"] == "True"
    columns = kubectl("get", "sm", "sales-de", "--no-headers")
    assert re.match(r"sales-de +sales_de +1:100% +gone:9 next:2 production:1 +\d", columns)
    kubectl(*person, given=served_model("sales_de", {2: 100}, aliases="production: 2"))
    kubectl(*registry, given=head + "spec: {aliases: {next: 2}}")
    assert settled(kubectl, "Resolved", kind="AliasesResolved")["aliasSummary"] == "next:2 production:2"
    taken = kubectl.run(*registry, given=head + "spec: {aliases: {production: 1}}", check=False)
    assert "conflict" in taken.stderr, "an alias has one writer"


def test_a_refused_document_is_good_once_its_version_is_published(
    kubectl: Kubectl, replica: StartReplica, publish: Publish
) -> None:
    replica()
    kubectl.apply(document({3: 100}))
    settled(kubectl, "UnknownVersion")
    publish("sales_de", 3)
    now = settled(kubectl, "InForce")
    assert now["summary"] == "3:100%"
    wait_for(partial(events, kubectl, "Accepted"), "an event says that it is good again")


def test_a_promotion_is_reported_as_one(kubectl: Kubectl, replica: StartReplica) -> None:
    replica()
    kubectl.apply(document({1: 75, 2: 25}))
    settled(kubectl, "InForce")
    kubectl.apply(document({2: 100}))
    settled(kubectl, "InForce")
    (event,) = wait_for(partial(events, kubectl, "Promoted"), "an event of the promotion")
    assert event["note"] == "version 2 has all of the traffic; before: 1:75% 2:25%"


def test_a_version_that_cannot_be_loaded_gets_no_traffic_and_the_status_has_tritons_words(
    kubectl: Kubectl, replica: StartReplica, tmp_path: Path
) -> None:
    replica()
    kubectl.apply(document({1: 100}))
    settled(kubectl, "InForce")
    (tmp_path / "fail" / "sales_de-2").write_text("Load model failed: Protobuf parsing failed.")
    kubectl.apply(document({1: 90, 2: 10}))
    now = settled(kubectl, "LoadFailed", kind="Progressing")
    assert now["traffic"] == [{"version": 1, "percent": 100}]
    assert condition(now, "Ready") | {"lastTransitionTime": ""} == {
        "type": "Ready",
        "status": "False",
        "reason": "LoadFailed",
        "message": "in force is 1:100%; version 2: Load model failed: Protobuf parsing failed.",
        "lastTransitionTime": "",
        "observedGeneration": 2,
    }
    (event,) = wait_for(partial(events, kubectl, "LoadFailed"), "an event says so")
    assert "Protobuf parsing failed" in event["note"]
    (tmp_path / "fail" / "sales_de-2").unlink()
    assert settled(kubectl, "InForce")["summary"] == "1:90% 2:10%"


def test_a_version_removed_under_traffic_stays_served_and_the_status_says_so(
    kubectl: Kubectl, replica: StartReplica, models: Path
) -> None:
    replica()
    kubectl.apply(document({1: 60, 2: 40}))
    settled(kubectl, "InForce")
    shutil.rmtree(models / "sales_de" / "2")
    now = settled(kubectl, "VersionRemoved", kind="Valid")
    assert now["summary"] == "1:60% 2:40%"
    assert condition(now, "Ready")["status"] == "True"
    kubectl.apply(document({1: 100}))
    assert settled(kubectl, "Accepted", kind="Valid")["summary"] == "1:100%"


def test_of_two_served_models_for_one_model_the_first_keeps_it(kubectl: Kubectl, replica: StartReplica) -> None:
    replica()
    kubectl.apply(document({1: 100}))
    settled(kubectl, "InForce")
    kubectl.apply(document({2: 100}, name="a-newcomer"))
    late = settled(kubectl, "RouteTaken", "a-newcomer")
    assert "sales-de is one" in condition(late, "Ready")["message"]
    assert late["traffic"] == []
    assert status(kubectl)["summary"] == "1:100%"
    kubectl("delete", "servedmodel", "sales-de")
    assert settled(kubectl, "InForce", "a-newcomer")["summary"] == "2:100%"


def test_a_model_that_is_not_there_is_named(kubectl: Kubectl, replica: StartReplica) -> None:
    replica()
    kubectl.apply(document({1: 100}, model="sales_xx"))
    now = settled(kubectl, "UnknownModel", "sales-xx")
    assert condition(now, "Ready")["message"] == "spec.model: the model repository has no 'sales_xx'"


def test_after_a_restart_the_traffic_in_force_is_what_it_was(kubectl: Kubectl, replica: StartReplica) -> None:
    first = replica()
    kubectl.apply(document({1: 80, 2: 20}))
    settled(kubectl, "InForce")
    kubectl.apply(document({1: 50, 7: 50}))
    before = settled(kubectl, "UnknownVersion")
    first.terminate()
    first.wait(20)
    kubectl.apply(document({1: 40, 7: 60}))
    replica("controller-1")
    now = settled(kubectl, "UnknownVersion")
    assert now["traffic"] == before["traffic"] == [{"version": 1, "percent": 80}, {"version": 2, "percent": 20}]
    assert condition(now, "Ready")["lastTransitionTime"] == condition(before, "Ready")["lastTransitionTime"]


def test_a_change_made_while_the_api_server_was_out_of_reach_is_followed_after_it(
    kubectl: Kubectl, relay: Relay, replica: StartReplica, tmp_path: Path
) -> None:
    replica()
    log = tmp_path / "controller-0.log"
    kubectl.apply(document({1: 100}))
    settled(kubectl, "InForce")
    relay.cut()
    wait_for(lambda: "the last documents stay in force" in log.read_text(), "the log has the lost connection")
    kubectl.apply(document({1: 50, 2: 50}))
    kubectl.apply(document({1: 100}, model="sales_fr"))
    relay.mend()
    assert settled(kubectl, "InForce")["summary"] == "1:50% 2:50%"
    settled(kubectl, "InForce", "sales-fr")
    assert "watch of ServedModels restored" in log.read_text()
