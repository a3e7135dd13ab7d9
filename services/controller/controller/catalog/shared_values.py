"""Values of documents that are one object where they are equal: 100,000 models have few different ones."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

NO_SHARES: Final[Mapping[int, int]] = {}
NO_ALIASES: Final[Mapping[str, int]] = {}
_SHARED: Final = 4096  # different values of each kind

_Placement = TypeVar("_Placement", bound=Hashable)


def shared_shares(shares: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """Percent by version."""
    return _shared_shares(tuple(shares))


def shared_aliases(aliases: Mapping[str, int]) -> Mapping[str, int]:
    """Versions by alias, in the order of the aliases."""
    return _shared_aliases(tuple(sorted(aliases.items())))


def shared_placement(placement: _Placement) -> _Placement:
    """The placement of a document."""
    shared: _Placement = _shared(placement)
    return shared


@lru_cache(_SHARED)
def _shared_shares(shares: tuple[tuple[int, int], ...]) -> Mapping[int, int]:
    return dict(shares)


@lru_cache(_SHARED)
def _shared_aliases(aliases: tuple[tuple[str, int], ...]) -> Mapping[str, int]:
    return dict(aliases) if aliases else NO_ALIASES


@lru_cache(_SHARED)
def _shared(value: _Placement) -> _Placement:
    return value
