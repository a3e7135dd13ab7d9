"""A canary lane with kubectl alone, from manifests/lane to its promotion, by the commands of docs/guides/canary.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.canaries import (
    DIGIT,
    PER_SECOND,
    apply_traffic,
    assert_the_header_chooses,
    counted,
    follow,
    right_labels,
    wait_for_first_answer,
)
from tests.e2e.census import Census
from tests.e2e.conftest import Figure
from tests.e2e.handbook import Handbook
from tests.e2e.release import Release
from triptych import __version__

STABLE, CANARY = (__version__, __version__, 1), ("2", "2", 1)  # as manifests/lane calls them


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lane_is_raised_rolled_back_and_promoted_with_kubectl_alone(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    release = new_release("canary-kubectl", "Standard")
    book = Handbook(release, next_tag, tmp_path)
    book.run("kubectl-start")
    book.run("lane-started")
    wait_for_first_answer(release)
    apply_traffic(release, (1, 100))
    endpoint = release.outside()
    right = right_labels(endpoint)
    assert_the_header_chooses(endpoint, {"canary": CANARY, "stable": STABLE})
    with Census(endpoint, DIGIT, PER_SECOND) as census:
        census.next(200)
        assert census.lanes.keys() == {STABLE}
        follow(book, census, "kubectl-raise")
        census.until_some(CANARY)
        counted(census, 10, CANARY, figure)
        follow(book, census, "kubectl-back")
        census.until_all(STABLE)
        follow(book, census, "kubectl-all")
        census.until_all(CANARY)
        follow(book, census, "kubectl-stable", "kubectl-ending", "kubectl-end")
        release.wait_until_settled("preprocess-canary", 0)
        census.next(200)
    census.assert_none_lost_or_mixed((STABLE, CANARY), right)
    figure(f"all of it, promotion and rollback included: {dict(census.lanes)}, none lost")
    assert not [name for name in release.objects() if "canary" in name and not name.startswith("pod")]
