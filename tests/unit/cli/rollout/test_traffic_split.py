"""Shares: steps, rounding, and the rest of the old versions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_cli.arguments import duration
from triptych_cli.rollout.traffic_split import (
    UsageError,
    active_shares,
    format_split,
    parse_steps,
    promoted,
    remaining_steps,
    split,
)

SHARES = st.lists(st.integers(1, 1000), min_size=1, max_size=5).map(
    lambda parts: {str(at + 1): part for at, part in enumerate(_percents(parts))}
)


def _percents(parts: list[int]) -> list[int]:
    """Whole percents that add up to 100, more or less in these proportions."""
    percents = [100 * part // sum(parts) for part in parts]
    percents[0] += 100 - sum(percents)
    return percents


@given(SHARES, st.integers(1, 100))
def test_every_split_adds_up_and_keeps_the_proportions_of_the_others(before: dict[str, int], share: int) -> None:
    traffic = split(before, "9", share)
    assert sum(traffic.values()) == 100
    assert traffic["9"] == share
    for version, percent in before.items():
        assert abs(traffic[version] - percent * (100 - share) / 100) < 1
        assert percent or not traffic[version]


@given(SHARES)
def test_a_split_at_the_share_that_is_there_changes_nothing(before: dict[str, int]) -> None:
    assert split(before, "1", before["1"]) == before


def test_the_old_version_stays_at_zero_until_the_end_and_leaves_then() -> None:
    before = {"2": 0, "3": 100}
    assert split(before, "4", 100) == {"2": 0, "3": 0, "4": 100}
    assert promoted(before, "4") == {"2": 0, "4": 100}


def test_steps_that_the_version_has_taken_already_are_left_out() -> None:
    assert remaining_steps((5, 25, 50, 100), {"3": 75, "4": 25}, "4") == (50, 100)
    with pytest.raises(UsageError, match="version 4 has 100 % already"):
        remaining_steps((5, 100), {"4": 100}, "4")
    with pytest.raises(UsageError, match="the only step left is 100"):
        remaining_steps((5, 100), {"3": 50, "4": 50}, "4")


@pytest.mark.parametrize("text", ["", "5,", "a", "0,50", "50,25", "5,5", "50,101", "-1,5", "1.5"])
def test_steps_that_do_not_rise_from_1_to_100_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want (rising )?percents"):
        parse_steps(text)


def test_a_rollout_in_one_step_has_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="want a step below 100"):
        parse_steps("100")


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60), ("90", 90), ("5m", 300), ("1.5h", 5400), ("0.5", 0.5)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-5s", "1d", "nan", "inf", "1e999h"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want a time above 0"):
        duration(text)


def test_versions_are_spelt_in_their_order() -> None:
    assert format_split({"10": 5, "9": 95}) == "9: 95 %, 10: 5 %"
    assert active_shares({"1": 0, "2": 100}) == {"2": 100}
