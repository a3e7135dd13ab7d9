"""Canary of a model version with kubectl and by values, by docs/guides/canary.md, under load with counted shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.answer_recorder import AnswerRecorder, likely
from tests.e2e.canaries import (
    COUNTED,
    DIGIT,
    PICTURE,
    apply_traffic,
    counted,
    follow,
    installed,
    right_labels,
    small,
)
from tests.e2e.conftest import Figure
from tests.e2e.documented_commands import DocumentedCommands
from tests.e2e.release import Endpoint, Release
from tests.integration.messages import infer_request


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_version_gets_its_share_and_each_key_stays_with_its_version(
    new_release: Callable[[str, str], Release], next_tag: str, tmp_path: Path, figure: Figure
) -> None:
    release = installed(new_release, "canary-version", "Deployment")
    apply_traffic(release, (1, 100))
    lanes = [(release.tag, release.tag, version) for version in (1, 2)]
    commands = DocumentedCommands(release, next_tag, tmp_path)
    commands.set(release.values(small()))
    endpoint = release.gateway()
    right = right_labels(endpoint)
    with AnswerRecorder(endpoint, DIGIT, per_second=40) as recorder:
        follow(commands, recorder, "version")
        few = versions_by_key(endpoint)
        assert versions_by_key(endpoint) == few
        assert likely(_seconds(few), COUNTED, 5), few
        follow(commands, recorder, "version-by-values")
        more = versions_by_key(endpoint)
        assert likely(_seconds(more), COUNTED, 30), more
        assert all(more[key] == 2 for key, version in few.items() if version == 2)
        figure(f"of {COUNTED} keys {_seconds(few)} have version 2 at 5 %, these and others, {_seconds(more)}, at 30 %")
        counted(recorder, 30, lanes[1], figure)
        follow(commands, recorder, "version-back")
        recorder.until_all(lanes[0])
        apply_traffic(release, (2, 100))
        recorder.until_all(lanes[1])
    recorder.assert_none_lost_or_mixed(lanes, right)
    figure(f"all of it, promotion and rollback included: {dict(recorder.lanes)}, none lost")
    release.uninstall()


def versions_by_key(server: Endpoint) -> dict[str, int]:
    """Version that each of many callers with a `traffic_key` gets."""
    caller = server.caller()

    def version(key: str) -> int:
        return int(caller.infer(infer_request("digits_gb", {"image": PICTURE}, traffic_key=key)).model_version)

    with ThreadPoolExecutor(4) as pool:
        keys = [f"customer-{number}" for number in range(COUNTED)]
        found = dict(zip(keys, pool.map(version, keys), strict=True))
    caller.channel.close()
    return found


def _seconds(versions: Mapping[str, int]) -> int:
    return list(versions.values()).count(2)
