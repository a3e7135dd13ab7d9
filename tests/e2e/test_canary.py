"""Canary of a lane by chart values, by the commands of docs/guides/canary.md, under load with counted shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.answer_recorder import AnswerRecorder
from tests.e2e.canaries import (
    DIGIT,
    PER_SECOND,
    assert_the_header_chooses,
    follow,
    installed,
    raise_roll_back_and_raise,
    right_labels,
    served,
    small,
    wait_for_traffic,
    with_images,
)
from tests.e2e.conftest import Figure
from tests.e2e.documented_commands import DocumentedCommands
from tests.e2e.kubectl import wait_for
from tests.e2e.release import START_S, Release

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_pre_model_and_post_are_one_lane_that_is_raised_rolled_back_and_promoted(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    first, second = [served((1, 100))], [served((2, 100))]
    release = installed(new_release, "canary-lane", "Standard", servedModels=first)
    wait_for_traffic(release, (1, 100))
    stable, canary = (release.tag, release.tag, 1), (next_tag, next_tag, 2)
    commands = DocumentedCommands(release, next_tag, tmp_path)
    commands.set(release.values(small() | {"servedModels": first}))
    lane = {"enabled": True, "percent": 0, "servedModels": second} | with_images(next_tag)
    commands.set({"canary": lane}, "canary.yaml")
    endpoint = release.gateway()
    right = right_labels(endpoint)
    with AnswerRecorder(endpoint, DIGIT, PER_SECOND) as recorder:
        follow(commands, recorder, "lane-start", "lane-started")
        for stage in ("predictor", "controller"):
            release.wait_until_settled(f"{stage}-canary")
        assert_the_header_chooses(endpoint, {"canary": canary, "stable": stable})
        assert recorder.lanes.keys() == {stable}
        labels = ("lane-raise", "lane-back", "lane-all")
        raise_roll_back_and_raise(commands, recorder, (stable, canary), labels, figure)
        commands.set(release.values(small(**with_images(next_tag)) | {"servedModels": second}))
        follow(commands, recorder, "lane-stable", "lane-stable-ready")
        wait_for_traffic(release, (2, 100))
        follow(commands, recorder, "lane-ending", "lane-end")
        release.wait_until_settled("preprocess-canary", 0)
        recorder.next(200)
    recorder.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(recorder.lanes)}, none lost")
    assert not [name for name in release.objects() if "canary" in name and not name.startswith("pod")]
    release.uninstall()


def test_in_knative_mode_requests_of_the_newest_revision_stay_in_its_lane(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    models = {"servedModels": [served((1, 100))]}
    release = installed(new_release, "canary-knative", "Knative", **models)
    wait_for_traffic(release, (1, 100))
    stable, canary = (release.tag, release.tag, 1), (next_tag, next_tag, 1)
    commands = DocumentedCommands(release, next_tag, tmp_path)
    commands.set(release.values(small() | models))
    commands.set({"canary": {"enabled": True, "percent": 0} | with_images(next_tag)}, "canary.yaml")
    endpoint = release.gateway()
    right = right_labels(endpoint)
    with AnswerRecorder(endpoint, DIGIT, PER_SECOND) as recorder:
        follow(commands, recorder, "lane-start", "lane-started-knative")
        recorder.next(200)
        assert recorder.lanes.keys() == {stable}
        labels = ("lane-raise", "lane-back", "lane-all")
        raise_roll_back_and_raise(commands, recorder, (stable, canary), labels, figure)
        commands.set(release.values(small(**with_images(next_tag)) | models))
        follow(commands, recorder, "lane-stable", "lane-stable-ready-knative", "lane-ending", "lane-ending-knative")
        follow(commands, recorder, "lane-end")
        wait_for(lambda: not release.pods("postprocess-canary"), "the canary is gone", START_S)
        recorder.next(200)
    recorder.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(recorder.lanes)}, none lost")
    release.uninstall()
