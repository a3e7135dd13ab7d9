"""The versions and shares that remain of a model when some of its versions cannot be served. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from controller.catalog.entities import Version


def without(versions: Mapping[int, Version], dropped: Collection[int]) -> Mapping[int, Version]:
    """The versions without some; the same object if none is dropped."""
    return {number: each for number, each in versions.items() if number not in dropped} if dropped else versions


def remaining_shares(traffic: Mapping[int, int], versions: Mapping[int, Version]) -> dict[int, int]:
    """Shares of the existing versions; the largest one gets those of the others. Empty if none exists."""
    left = {number: percent for number, percent in traffic.items() if number in versions}
    if not any(left.values()):
        return {}
    largest = max(left, key=lambda version: (left[version], version))
    left[largest] += 100 - sum(left.values())
    return left
