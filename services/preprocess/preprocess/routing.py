"""Which version answers a request that names none.

Weighted rendezvous hashing: each version scores the key, -percent / ln(h) with h in (0, 1) from a hash of version and
key, and the highest wins (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005). A version wins
exactly its share of the keys, and a key changes its version only towards one whose share grew or away from one whose
share shrank: going from 5 % to 10 % moves no key that was in the 5 %.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_SCALE = 2.0**-64


class Share(Protocol):
    """A version that takes a part of the traffic."""

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def percent(self) -> int: ...


S = TypeVar("S", bound=Share)


def choose(split: Sequence[S], key: str) -> S:
    """The version for a key, always the same while the split stands; an empty key is a random one.

    `split` has the versions of one model with more than 0 percent, at least one.
    """
    if len(split) == 1:
        return split[0]
    key = key or str(random.getrandbits(64))
    return max(split, key=lambda share: _score(f"{share.model}/{share.version}/{key}", share.percent))


def _score(text: str, percent: int) -> float:
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    return -percent / math.log((number + 0.5) * _SCALE)
