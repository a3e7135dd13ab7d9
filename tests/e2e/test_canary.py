"""Canaries on a real cluster, counted: of a lane, of a stage's code, and of a model's version.

The two versions of digits_gb number their classes differently, so an answer that mixes them has a wrong label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ruamel.yaml import YAML
from tritonclient.grpc import service_pb2 as pb

from helm.render import MANIFESTS
from local.environments import ROOT
from tests.e2e.census import Answer, Census, lanes_of, likely
from tests.e2e.conftest import Figure
from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Door, Release
from tests.integration.conftest import INFER, Caller
from tests.integration.load import answers
from tests.integration.messages import infer_request, objects

PICTURE = objects((ROOT / "examples/data/seven_640x480.jpg").read_bytes())
DIGIT = infer_request("digits_gb", {"image": PICTURE})
COUNTED = 2000


STAGES = ("preprocess", "predictor", "postprocess", "repository")
SMALL = {"resources": {"requests": {"cpu": "20m"}}}  # two lanes, and one more pod while one is replaced


def revisions(name: str) -> dict[str, Any]:
    """Values that give the two stages of code another revision, as another image would."""
    return {stage: {"settings": {"revision": name}} for stage in ("preprocess", "postprocess")}


def stable_lane(revision: str) -> dict[str, Any]:
    """Values of a release without a canary."""
    return {stage: SMALL | revisions(revision).get(stage, {}) for stage in STAGES}


def served(*shares: tuple[int, int]) -> dict[str, Any]:
    """The spec of a ServedModel of digits_gb, by version and percent."""
    return {"model": "digits_gb", "traffic": [{"version": version, "percent": percent} for version, percent in shares]}


def apply_traffic(release: Release, *shares: tuple[int, int]) -> None:
    """Returns once it is in force."""
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "digits-gb"}}
    release.kubectl.apply(json.dumps(head | {"spec": served(*shares)}))
    wait_for_traffic(release, *shares)


def apply_example(release: Release, name: str) -> None:
    """One of manifests/examples, which are about digits_gb too."""
    file = MANIFESTS / "examples" / f"{name}.yaml"
    release.kubectl("apply", f"--filename={file}")
    spec = YAML(typ="safe", pure=True).load(file)["spec"]
    wait_for_traffic(release, *((each["version"], each["percent"]) for each in spec["traffic"]))


def wait_for_traffic(release: Release, *shares: tuple[int, int]) -> None:
    def in_force() -> bool:
        status = release.kubectl.get("servedmodel", "digits-gb").get("status", {})
        now = {(share["version"], share["percent"]) for share in status.get("traffic", ())}
        return now == {share for share in shares if share[1]}

    wait_for(in_force, f"traffic {shares}", START_S)


def installed(new_release: Callable[[str, str], Release], name: str, mode: str) -> Release:
    """A release that answers through its gateway, with version 1 of digits_gb."""
    release = new_release(name, mode)
    release.apply(stable_lane("one"))
    for component in ("repository", "predictor"):
        release.wait_until_settled(component)
    apply_traffic(release, (1, 100))
    caller = wait_for(lambda: _entrance(release), "the entrance is there", START_S)
    wait_for(lambda: answers(caller, DIGIT), "the first answer", START_S)
    caller.channel.close()
    return release


def _entrance(release: Release) -> Caller | None:
    try:
        return release.outside().caller()
    except AssertionError:
        return None


def right_labels(door: Door) -> Mapping[int, object]:
    """The labels of each version, asked for by its number while nothing changes."""
    caller = door.caller()
    asked = (infer_request("digits_gb", {"image": PICTURE}, version=str(version)) for version in (1, 2))
    found = [Answer.of(caller.infer(request, timeout_s=60)) for request in asked]
    caller.channel.close()
    assert all(each.labels[0] == b"seven" for each in found)
    return {each.version: each.labels for each in found}


def counted(census: Census, percent: float, lane: tuple[str, str, int], figure: Figure) -> None:
    """The share of a lane is what was asked for."""
    counts = lanes_of(census.next(COUNTED))
    figure(f"{percent:g} %: {dict(counts)} of {COUNTED}")
    assert likely(counts[lane], COUNTED, percent), counts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pre_model_and_post_are_one_lane_that_is_raised_rolled_back_and_promoted(
    new_release: Callable[[str, str], Release], figure: Figure
) -> None:
    release = installed(new_release, "canary-lane", "Standard")
    stable, canary = ("one", "one", 1), ("two", "two", 2)
    lane = {"enabled": True, "servedModels": [served((2, 100))], **revisions("two")}
    door = release.outside()
    right = right_labels(door)
    with Census(door, DIGIT) as census:
        census.doing = "canary 0 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane})
        for stage in STAGES:
            release.wait_until_settled(f"{stage}-canary")
        assert_the_header_chooses(door, {"canary": canary, "stable": stable})
        assert census.lanes.keys() == {stable}

        census.doing = "canary 10 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane | {"percent": 10}})
        census.until_some(canary)
        counted(census, 10, canary, figure)

        census.doing = "canary 0 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane | {"percent": 0}})
        census.until_all(stable)

        census.doing = "patch_weights 50, 50"
        patch_weights(release, 50, 50)
        census.until_some(canary)
        counted(census, 50, canary, figure)

        census.doing = "canary 100 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane | {"percent": 100}})
        census.until_all(canary)
        promote(release, lane | {"percent": 100}, census)
        census.next(200)
    census.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")
    assert not [name for name in release.objects() if "canary" in name and not name.startswith("pod")]


def assert_the_header_chooses(door: Door, lanes: Mapping[str, tuple[str, str, int]]) -> None:
    channel = door.channel()
    ask = channel.unary_unary(INFER)
    for name, lane in lanes.items():
        for _ in range(20):
            answer = ask(DIGIT.SerializeToString(), timeout=20, metadata=[("triptych-lane", name)])
            assert Answer.of(pb.ModelInferResponse.FromString(answer)).lane == lane
    channel.close()


def patch_weights(release: Release, stable: int, canary: int) -> None:
    """With kubectl alone, as docs/canary.md has it."""
    rules = release.kubectl.get("grpcroute", "preprocess")["spec"]["rules"]
    last = len(rules) - 1
    patch = ", ".join(
        f'{{"op": "replace", "path": "/spec/rules/{last}/backendRefs/{index}/weight", "value": {weight}}}'
        for index, weight in enumerate((stable, canary))
    )
    release.kubectl("patch", "grpcroute", "preprocess", "--type=json", f"--patch=[{patch}]")


def promote(release: Release, lane: dict[str, Any], census: Census) -> None:
    """What the canary has becomes stable while nobody is there; then the entrance moves; then the canary goes."""
    census.doing = "the stable lane becomes two"
    before = {stage: release.uids(stage) for stage in ("preprocess", "postprocess")}
    release.apply(stable_lane("two") | {"canary": lane})
    apply_traffic(release, (2, 100))
    for stage, uids in before.items():
        release.wait_until_settled(stage, without=uids)
    census.doing = "the canary is ending"
    release.apply(stable_lane("two") | {"canary": lane | {"ending": True}})
    wait_for(lambda: _in_force(release), "the gateway has taken the route", START_S)
    census.doing = "the canary is taken away"
    release.apply(stable_lane("two"))
    release.wait_until_settled("preprocess-canary", 0)


def _in_force(release: Release) -> bool:
    """The route has one backend, and the gateway says that it knows this generation of it."""
    route = release.kubectl.get("grpcroute", "preprocess")
    conditions = [each for parent in route["status"]["parents"] for each in parent["conditions"]]
    known = {each["observedGeneration"] for each in conditions if each["type"] == "Accepted"}
    return known == {route["metadata"]["generation"]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_in_knative_mode_requests_of_the_newest_revision_stay_in_its_lane(
    new_release: Callable[[str, str], Release], figure: Figure
) -> None:
    release = installed(new_release, "canary-knative", "Knative")
    stable, canary = ("one", "one", 1), ("two", "two", 1)
    lane = {"enabled": True, **revisions("two")}
    door = release.outside()
    right = right_labels(door)
    with Census(door, DIGIT, per_second=50) as census:
        census.doing = "canary 0 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane})
        wait_until_rolled_out(release, "postprocess-canary", "preprocess")
        census.next(100)
        assert census.lanes.keys() == {stable}

        census.doing = "patch_percent 10"
        patch_percent(release, 10)
        census.until_some(canary)
        counted(census, 10, canary, figure)
        census.doing = "patch_percent 0"
        patch_percent(release, 0)
        census.until_all(stable)

        census.doing = "canary 50 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane | {"percent": 50}})
        census.until_some(canary)
        counted(census, 50, canary, figure)
        census.doing = "canary 100 %, stable one"
        release.apply(stable_lane("one") | {"canary": lane | {"percent": 100}})
        census.until_all(canary)

        census.doing = "canary 100 %, stable two"
        release.apply(stable_lane("two") | {"canary": lane | {"percent": 100}})
        wait_until_rolled_out(release, "postprocess")
        census.doing = "canary 100 %, ending, stable two"
        release.apply(stable_lane("two") | {"canary": lane | {"percent": 100, "ending": True}})
        wait_until_rolled_out(release, "preprocess")
        census.next(200)
        census.doing = "no canary, stable two"
        release.apply(stable_lane("two"))
        wait_for(lambda: not release.pods("postprocess-canary"), "the canary is gone", START_S)
        census.next(200)
    census.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")


def patch_percent(release: Release, percent: int) -> None:
    """With kubectl alone, as docs/canary.md has it."""
    patch = f'{{"spec": {{"predictor": {{"canaryTrafficPercent": {percent}}}}}}}'
    release.kubectl("patch", "inferenceservice", "preprocess", "--type=merge", f"--patch={patch}")


def wait_until_rolled_out(release: Release, *names: str) -> None:
    """The newest revision of each InferenceService is ready, and the traffic is as asked."""

    def rolled_out(name: str) -> bool:
        found = release.kubectl.get("inferenceservice", name)
        status = found.get("status", {})
        conditions = {each["type"]: each["status"] for each in status.get("conditions", ())}
        part = status.get("components", {}).get("predictor", {})
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and conditions.get("Ready") == "True"
            and part.get("latestCreatedRevision") == part.get("latestReadyRevision")
        )

    for name in names:
        wait_for(lambda name=name: rolled_out(name), f"{name} is rolled out", START_S)  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_version_gets_its_share_and_each_key_stays_with_its_version(
    new_release: Callable[[str, str], Release], figure: Figure
) -> None:
    release = installed(new_release, "canary-version", "Deployment")
    lanes = [("one", "one", 1), ("one", "one", 2)]
    door = release.outside()
    right = right_labels(door)
    with Census(door, DIGIT, per_second=40) as census:
        apply_example(release, "canary")
        few = versions_by_key(door)
        assert versions_by_key(door) == few
        assert likely(_seconds(few), COUNTED, 5), few
        apply_traffic(release, (1, 70), (2, 30))
        more = versions_by_key(door)
        assert likely(_seconds(more), COUNTED, 30), more
        assert all(more[key] == 2 for key, version in few.items() if version == 2)
        figure(f"of {COUNTED} keys {_seconds(few)} have version 2 at 5 %, these and others, {_seconds(more)}, at 30 %")
        counted(census, 30, lanes[1], figure)
        apply_example(release, "rollback")
        census.until_all(lanes[0])
        apply_traffic(release, (2, 100))
        census.until_all(lanes[1])
    census.assert_none_lost_or_mixed(lanes, right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")


def versions_by_key(door: Door) -> dict[str, int]:
    """Which version each of many callers gets who send a `traffic_key`."""
    caller = door.caller()

    def version(key: str) -> int:
        return int(caller.infer(infer_request("digits_gb", {"image": PICTURE}, traffic_key=key)).model_version)

    with ThreadPoolExecutor(4) as pool:
        keys = [f"customer-{number}" for number in range(COUNTED)]
        found = dict(zip(keys, pool.map(version, keys), strict=True))
    caller.channel.close()
    return found


def _seconds(versions: Mapping[str, int]) -> int:
    return list(versions.values()).count(2)
