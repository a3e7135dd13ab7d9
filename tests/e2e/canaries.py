"""Shared steps of the canary tests. The two versions of the model number their classes differently.

An answer that mixes versions therefore has a wrong label.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from tests.e2e.answer_recorder import Answer, AnswerRecorder, lanes_of, likely
from tests.e2e.conftest import Figure
from tests.e2e.documented_commands import DocumentedCommands
from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Endpoint, Release
from tests.integration.conftest import INFER, Caller
from tests.integration.load import answers
from tests.integration.messages import infer_request, objects

Lane = tuple[str, str, int]

COUNTED = 2000
PER_SECOND = 100
STAGES = ("preprocess", "predictor", "postprocess", "controller")
SMALL = {"resources": {"requests": {"cpu": "20m"}}}  # two lanes, and one more pod while one is replaced


def _small_picture() -> bytes:
    """A small picture of a seven, since decoding is not under test."""
    large = cv2.imread(str(ROOT / "examples/data/seven_640x480.jpg"))
    assert large is not None
    encoded: bytes = cv2.imencode(".jpg", cv2.resize(large, (160, 120), interpolation=cv2.INTER_AREA))[1].tobytes()
    return encoded


PICTURE = objects(_small_picture())
DIGIT = infer_request("digits_gb", {"image": PICTURE})


def small(**more: dict[str, Any]) -> dict[str, Any]:
    """Chart values for small pods, with additions by stage."""
    return {stage: SMALL | more.get(stage, {}) for stage in STAGES}


def with_images(tag: str) -> dict[str, dict[str, Any]]:
    """Chart values for the images of preprocess and postprocess under a tag."""
    return {stage: {"image": f"triptych/{stage}:{tag}"} for stage in ("preprocess", "postprocess")}


def served(*shares: tuple[int, int]) -> dict[str, Any]:
    """Spec of a ServedModel of digits_gb, by version and percent."""
    return {"model": "digits_gb", "traffic": [{"version": version, "percent": percent} for version, percent in shares]}


def apply_traffic(release: Release, *shares: tuple[int, int]) -> None:
    """Apply a traffic split and wait until it is in force."""
    head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "digits-gb"}}
    release.kubectl.apply(json.dumps(head | {"spec": served(*shares)}))
    wait_for_traffic(release, *shares)


def wait_for_traffic(release: Release, *shares: tuple[int, int]) -> None:
    def in_force() -> bool:
        status = release.kubectl.get("servedmodel", "digits-gb").get("status", {})
        now = {(share["version"], share["percent"]) for share in status.get("traffic", ())}
        return now == {share for share in shares if share[1]}

    wait_for(in_force, f"traffic {shares}", START_S)


def installed(new_release: Callable[[str, str], Release], name: str, mode: str, **values: Any) -> Release:
    """Install a release of small pods and wait until it answers through its gateway."""
    release = new_release(name, mode)
    release.apply(small() | values)
    for component in ("controller", "predictor"):
        release.wait_until_settled(component)
    wait_for_first_answer(release)
    return release


def wait_for_first_answer(release: Release) -> None:
    """Wait until the release answers through its gateway."""
    caller = wait_for(lambda: _endpoint_caller(release), "the endpoint is there", START_S)
    wait_for(lambda: answers(caller, DIGIT), "the first answer", START_S)
    caller.channel.close()


def _endpoint_caller(release: Release) -> Caller | None:
    try:
        return release.gateway().caller()
    except AssertionError:
        return None


def right_labels(server: Endpoint) -> Mapping[int, object]:
    """Labels of each version, requested by number while nothing changes."""
    caller = server.caller()
    asked = (infer_request("digits_gb", {"image": PICTURE}, version=str(version)) for version in (1, 2))
    found = [Answer.of(caller.infer(request, timeout_s=60)) for request in asked]
    caller.channel.close()
    assert all(each.labels[0] == b"seven" for each in found)
    return {each.version: each.labels for each in found}


def counted(recorder: AnswerRecorder, percent: float, lane: Lane, figure: Figure) -> None:
    """Assert that the share of a lane is as configured."""
    counts = lanes_of(recorder.next(COUNTED))
    figure(f"{percent:g} %: {dict(counts)} of {COUNTED}")
    assert likely(counts[lane], COUNTED, percent), counts


def follow(commands: DocumentedCommands, recorder: AnswerRecorder, *labels: str) -> None:
    """Run commands of the page; failures meanwhile are recorded under their label."""
    for label in labels:
        recorder.phase = label
        commands.run(label)


def raise_roll_back_and_raise(
    commands: DocumentedCommands,
    recorder: AnswerRecorder,
    lanes: tuple[Lane, Lane],
    labels: Sequence[str],
    figure: Figure,
) -> None:
    """Give the canary 10 %, then nothing, then everything, each by the commands of a label."""
    stable, canary = lanes
    some, none, everything = labels
    follow(commands, recorder, some)
    recorder.until_some(canary)
    counted(recorder, 10, canary, figure)
    follow(commands, recorder, none)
    recorder.until_all(stable)
    follow(commands, recorder, everything)
    recorder.until_all(canary)


def assert_the_header_chooses(server: Endpoint, lanes: Mapping[str, Lane]) -> None:
    channel = server.channel()
    ask = channel.unary_unary(INFER)
    for name, lane in lanes.items():
        for _ in range(20):
            answer = ask(DIGIT.SerializeToString(), timeout=20, metadata=[("triptych-lane", name)])
            assert Answer.of(pb.ModelInferResponse.FromString(answer)).lane == lane
    channel.close()
