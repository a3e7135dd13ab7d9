"""Two releases in one namespace: each serves its own objects and leaves those of the other alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import model_folders
from tests.e2e.canaries import DIGIT, served, small
from tests.e2e.conftest import StartReplica
from tests.e2e.kubectl import Kubectl, wait_for
from tests.e2e.release import START_S, Release
from tests.e2e.test_served_models import Publish, events, settled, status
from tests.integration.conftest import Caller
from tests.integration.load import answers

WATCHED_S = 12  # longer than between two writes of the fields that change with every load


def changes(kubectl: Kubectl) -> str:
    """The ServedModels that are written within a rest."""
    watching = ("get", "servedmodels", "--watch-only", "--output=name", f"--request-timeout={WATCHED_S}s")
    return kubectl.run(*watching, check=False).stdout


def leases(kubectl: Kubectl) -> set[str]:
    return {str(each["metadata"]["name"]) for each in kubectl.get("leases")["items"]}


def test_each_release_serves_its_own_objects_and_writes_to_no_other(
    kubectl: Kubectl, replica: StartReplica, publish: Publish, tmp_path: Path
) -> None:
    """The stores differ: what one release can serve is an unknown version for the other."""
    publish("sales_de", 1)
    model_folders.publish(tmp_path / "blue", "sales_de", 7)
    replica("green-0")
    blue = replica("blue-0", "blue", tmp_path / "blue")
    wait_for(lambda: leases(kubectl) == {"triptych-controller", "blue-controller"}, "each has a leader", START_S)
    for name, traffic, release in (("sales-de", {1: 100}, ""), ("blue", {7: 100}, "blue"), ("red", {1: 100}, "red")):
        kubectl.apply(model_folders.served_model("sales_de", traffic, name=name, release=release))
    assert settled(kubectl, "InForce")["summary"] == "1:100%"
    assert settled(kubectl, "InForce", "blue")["summary"] == "7:100%"
    wait_for(lambda: not changes(kubectl), "nobody writes at rest", START_S)
    assert not events(kubectl, "UnknownVersion"), "no release has reported on the other's object"
    assert status(kubectl, "red") == {}, "no release has that name"
    assert kubectl("get", "servedmodel", "red", "--no-headers").split()[:3] == ["red", "sales_de", "red"]
    kubectl.apply(model_folders.served_model("sales_de", {2: 100}, name="sales-de"))
    settled(kubectl, "UnknownVersion")
    assert status(kubectl, "blue")["summary"] == "7:100%"
    blue.terminate()
    blue.wait(20)
    kubectl("delete", "servedmodel", "blue")
    publish("sales_de", 2)
    assert settled(kubectl, "InForce")["summary"] == "2:100%"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_blue_and_green_answer_by_their_own_versions_and_one_of_them_can_go(
    new_release: Callable[[str, str], Release],
) -> None:
    green = new_release("blue-and-green", "Deployment")
    blue = Release(green.kubectl, green.tag, "Deployment", "blue", "blue")
    values = small() | {"gateway": {"enabled": False}}
    values["postprocess"] = {"mode": "InProcess"}
    green.apply(values | {"servedModels": [served((1, 100))]})
    blue.apply(values | {"servedModels": [served((2, 100))]})
    callers = {release.prefix: _caller(release) for release in (green, blue)}
    versions = {prefix: caller.infer(DIGIT).model_version for prefix, caller in callers.items()}
    assert versions == {"": "1", "blue": "2"}
    for name in ("digits-gb", "blue-digits-gb"):
        green.kubectl("wait", "servedmodel", name, "--for=condition=Ready", "--timeout=55s")
    wait_for(lambda: not changes(green.kubectl), "nobody writes at rest", START_S)
    assert not events(green.kubectl, "RouteTaken"), "no release has reported on the other's object"
    hosts = {name: set(_ready_on(green, name)) for name in ("digits-gb", "blue-digits-gb")}
    assert not hosts["digits-gb"] & hosts["blue-digits-gb"]
    before = set(green.objects())
    blue.uninstall()
    wait_for(lambda: not any("blue" in name for name in green.objects()), "nothing of blue is left", START_S)
    assert {name for name in before if "blue" not in name} <= set(green.objects())
    assert callers[""].infer(DIGIT).model_version == "1"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_split_of_a_fresh_install_is_in_force_though_nobody_asks(new_release: Callable[[str, str], Release]) -> None:
    release = new_release("fresh-split", "Deployment")
    values = small() | {"gateway": {"enabled": False}, "postprocess": {"mode": "InProcess"}}
    release.apply(values | {"servedModels": [served((1, 95), (2, 5))]})
    release.wait_until_settled("predictor")
    release.kubectl("wait", "servedmodel/digits-gb", "--for=condition=Ready", "--timeout=55s")
    assert status(release.kubectl, "digits-gb")["summary"] == "1:95% 2:5%"


def _caller(release: Release) -> Caller:
    release.wait_until_settled("preprocess")
    caller = release.service().caller()
    wait_for(lambda: answers(caller, DIGIT), "the first answer", START_S)
    return caller


def _ready_on(release: Release, name: str) -> list[str]:
    return [address for each in status(release.kubectl, name)["versions"] for address in each.get("readyOn", ())]
