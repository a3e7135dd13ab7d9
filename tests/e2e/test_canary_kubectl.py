"""Canary of a lane with kubectl, from manifests/lane to its promotion, by the commands of docs/guides/canary.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.answer_recorder import AnswerRecorder
from tests.e2e.canaries import (
    DIGIT,
    PER_SECOND,
    apply_traffic,
    assert_the_header_chooses,
    follow,
    raise_roll_back_and_raise,
    right_labels,
    wait_for_first_answer,
)
from tests.e2e.conftest import Figure
from tests.e2e.documented_commands import DocumentedCommands
from tests.e2e.release import Release
from triptych import __version__

STABLE, CANARY = (__version__, __version__, 1), ("2", "2", 1)  # as manifests/lane calls them


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lane_is_raised_rolled_back_and_promoted_with_kubectl_alone(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    release = new_release("canary-kubectl", "Standard")
    commands = DocumentedCommands(release, next_tag, tmp_path)
    commands.run("kubectl-start")
    commands.run("lane-started")
    wait_for_first_answer(release)
    apply_traffic(release, (1, 100))
    endpoint = release.gateway()
    right = right_labels(endpoint)
    assert_the_header_chooses(endpoint, {"canary": CANARY, "stable": STABLE})
    with AnswerRecorder(endpoint, DIGIT, PER_SECOND) as recorder:
        recorder.next(200)
        assert recorder.lanes.keys() == {STABLE}
        labels = ("kubectl-raise", "kubectl-back", "kubectl-all")
        raise_roll_back_and_raise(commands, recorder, (STABLE, CANARY), labels, figure)
        follow(commands, recorder, "kubectl-stable", "kubectl-ending", "kubectl-end")
        release.wait_until_settled("preprocess-canary", 0)
        recorder.next(200)
    recorder.assert_none_lost_or_mixed((STABLE, CANARY), right)
    figure(f"all of it, promotion and rollback included: {dict(recorder.lanes)}, none lost")
    assert not [name for name in release.objects() if "canary" in name and not name.startswith("pod")]
