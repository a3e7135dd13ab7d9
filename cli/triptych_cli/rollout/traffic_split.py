"""Traffic splits: the steps of a rollout, and the percents of each version at each of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

TrafficSplit = Mapping[str, int]  # percent by version (or revision); they sum to 100


class UsageError(Exception):
    """The options ask for something that cannot be done; nothing has been changed."""


def parse_steps(text: str) -> tuple[int, ...]:
    """Parse `5,25,50,100`. Raises `ValueError`."""
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"want percents separated by commas, as 5,25,50,100, got '{text}'") from None
    if list(steps) != sorted(set(steps)) or not 1 <= steps[0] <= steps[-1] <= 100:
        raise ValueError(f"want rising percents from 1 to 100, got '{text}'")
    if steps == (100,):
        raise ValueError("want a step below 100: without one there is no old version to compare with")
    return steps


def remaining_steps(steps: Sequence[int], before: TrafficSplit, to: str) -> tuple[int, ...]:
    """The steps above the share that the version has now. Raises `UsageError` if there is none."""
    share = before.get(to, 0)
    left = tuple(step for step in steps if step > share)
    if not left:
        raise UsageError(f"version {to} has {share} % already; there is no step above that in {list(steps)}")
    if left == (100,):
        raise UsageError(
            f"version {to} has {share} %, and the only step left is 100: name one between them to compare with the old"
        )
    return left


def split(before: TrafficSplit, to: str, share: int) -> TrafficSplit:
    """Give `to` its share; the others keep their proportions within the rest, in whole percents.

    Rounds by largest remainder. A version without traffic gets none.
    """
    others = {version: percent for version, percent in before.items() if version != to}
    total, left = sum(others.values()), 100 - share
    exact = {version: percent * left / total if total else 0.0 for version, percent in others.items()}
    parts = {version: int(value) for version, value in exact.items()}
    by_remainder = sorted(exact, key=lambda version: (parts[version] - exact[version], -others[version]))
    for version in by_remainder[: left - sum(parts.values())]:
        parts[version] += 1
    return {**parts, to: share}


def promoted(before: TrafficSplit, to: str) -> TrafficSplit:
    """Give `to` 100 %. Versions that had 0 % stay, callable by their number; the others are removed."""
    idle = {version: 0 for version, percent in before.items() if not percent and version != to}
    return {**idle, to: 100}


def active_shares(traffic: TrafficSplit) -> TrafficSplit:
    """The versions with traffic; an entry with 0 % makes no difference to requests."""
    return {version: percent for version, percent in traffic.items() if percent}


def format_split(traffic: TrafficSplit) -> str:
    """`3: 95 %, 4: 5 %`."""
    return ", ".join(f"{version}: {percent} %" for version, percent in sorted(traffic.items(), key=_order))


def _order(item: tuple[str, int]) -> tuple[int, str]:
    return (int(item[0]) if item[0].isdecimal() else 0, item[0])
