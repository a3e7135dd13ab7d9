"""A canary of a lane by values, on a real cluster, counted: by the commands of docs/guides/canary.md, under load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.canaries import (
    DIGIT,
    PER_SECOND,
    assert_the_header_chooses,
    counted,
    follow,
    installed,
    right_labels,
    served,
    small,
    wait_for_traffic,
    with_images,
)
from tests.e2e.census import Census
from tests.e2e.conftest import Figure
from tests.e2e.handbook import Handbook
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
    book = Handbook(release, next_tag, tmp_path)
    book.set(release.values(small() | {"servedModels": first}))
    lane = {"enabled": True, "percent": 0, "servedModels": second} | with_images(next_tag)
    book.set({"canary": lane}, "canary.yaml")
    endpoint = release.outside()
    right = right_labels(endpoint)
    with Census(endpoint, DIGIT, PER_SECOND) as census:
        follow(book, census, "lane-start", "lane-started")
        for stage in ("predictor", "controller"):
            release.wait_until_settled(f"{stage}-canary")
        assert_the_header_chooses(endpoint, {"canary": canary, "stable": stable})
        assert census.lanes.keys() == {stable}
        follow(book, census, "lane-raise")
        census.until_some(canary)
        counted(census, 10, canary, figure)
        follow(book, census, "lane-back")
        census.until_all(stable)
        follow(book, census, "lane-all")
        census.until_all(canary)
        book.set(release.values(small(**with_images(next_tag)) | {"servedModels": second}))
        follow(book, census, "lane-stable", "lane-stable-ready")
        wait_for_traffic(release, (2, 100))
        follow(book, census, "lane-ending", "lane-end")
        release.wait_until_settled("preprocess-canary", 0)
        census.next(200)
    census.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")
    assert not [name for name in release.objects() if "canary" in name and not name.startswith("pod")]
    release.uninstall()


def test_in_knative_mode_requests_of_the_newest_revision_stay_in_its_lane(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    models = {"servedModels": [served((1, 100))]}
    release = installed(new_release, "canary-knative", "Knative", **models)
    wait_for_traffic(release, (1, 100))
    stable, canary = (release.tag, release.tag, 1), (next_tag, next_tag, 1)
    book = Handbook(release, next_tag, tmp_path)
    book.set(release.values(small() | models))
    book.set({"canary": {"enabled": True, "percent": 0} | with_images(next_tag)}, "canary.yaml")
    endpoint = release.outside()
    right = right_labels(endpoint)
    with Census(endpoint, DIGIT, PER_SECOND) as census:
        follow(book, census, "lane-start", "lane-started-knative")
        census.next(200)
        assert census.lanes.keys() == {stable}
        follow(book, census, "knative-raise")
        census.until_some(canary)
        counted(census, 10, canary, figure)
        follow(book, census, "knative-back")
        census.until_all(stable)
        follow(book, census, "lane-all")
        census.until_all(canary)
        book.set(release.values(small(**with_images(next_tag)) | models))
        follow(book, census, "lane-stable", "lane-stable-ready-knative", "lane-ending", "lane-ending-knative")
        follow(book, census, "lane-end")
        wait_for(lambda: not release.pods("postprocess-canary"), "the canary is gone", START_S)
        census.next(200)
    census.assert_none_lost_or_mixed((stable, canary), right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")
    release.uninstall()
