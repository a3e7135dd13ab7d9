"""Shares: the steps of a rollout, and the traffic at each of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Traffic = Mapping[str, int]  # percent by version (or revision), 100 in all


class PlanError(Exception):
    """The call asks for something that cannot be done; nothing has been changed."""


def parse_steps(text: str) -> tuple[int, ...]:
    """`5,25,50,100` as numbers. Raises `ValueError`."""
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"want percents separated by commas, as 5,25,50,100, got '{text}'") from None
    if list(steps) != sorted(set(steps)) or not 1 <= steps[0] <= steps[-1] <= 100:
        raise ValueError(f"want rising percents from 1 to 100, got '{text}'")
    if steps == (100,):
        raise ValueError("want a step below 100: without one there is no old version to compare with")
    return steps


def remaining_steps(steps: Sequence[int], before: Traffic, to: str) -> tuple[int, ...]:
    """The steps above the share that the version has already. Raises `PlanError` when there is none."""
    share = before.get(to, 0)
    left = tuple(step for step in steps if step > share)
    if not left:
        raise PlanError(f"version {to} has {share} % already; there is no step above that in {list(steps)}")
    if left == (100,):
        raise PlanError(
            f"version {to} has {share} %, and the only step left is 100: name one between them to compare with the old"
        )
    return left


def split(before: Traffic, to: str, share: int) -> Traffic:
    """`share` percent for `to`; the others keep their proportions in what is left, whole percents each.

    Rounding by largest remainder; a version that had no traffic gets none.
    """
    others = {version: percent for version, percent in before.items() if version != to}
    total, left = sum(others.values()), 100 - share
    exact = {version: percent * left / total if total else 0.0 for version, percent in others.items()}
    parts = {version: int(value) for version, value in exact.items()}
    by_remainder = sorted(exact, key=lambda version: (parts[version] - exact[version], -others[version]))
    for version in by_remainder[: left - sum(parts.values())]:
        parts[version] += 1
    return {**parts, to: share}


def promoted(before: Traffic, to: str) -> Traffic:
    """All for `to`; versions that were there without traffic stay callable by their number, the others leave."""
    dark = {version: 0 for version, percent in before.items() if not percent and version != to}
    return {**dark, to: 100}


def taking(traffic: Traffic) -> Traffic:
    """The versions that take traffic: whether one without a share is written down makes no difference to requests."""
    return {version: percent for version, percent in traffic.items() if percent}


def spell(traffic: Traffic) -> str:
    """`3: 95 %, 4: 5 %`."""
    return ", ".join(f"{version}: {percent} %" for version, percent in sorted(traffic.items(), key=_order))


def _order(item: tuple[str, int]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdecimal() else 0, item[0])
