"""The choice of a version for a request that names none.

Weighted rendezvous hashing: each version scores the key, -percent / ln(h) with h in (0, 1) from a hash of version and
key, and the highest wins (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005). A version gets
exactly its share of the keys. A key moves only to a version whose share grew or from one whose share shrank: a change
from 5 % to 10 % moves no key of the 5 %.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_SCALE = 2.0**-64
LONG_KEY = 256  # characters beyond which a key is hashed once, not once for each version


class WeightedVersion(Protocol):
    """A version with its share of the traffic."""

    @property
    def model(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def percent(self) -> int: ...


S = TypeVar("S", bound=WeightedVersion)


def choose(split: Sequence[S], key: str) -> S:
    """The version for a key: the same for as long as the split is. An empty key stands for a random one.

    `split` has at least one version, each of more than 0 percent.
    """
    if len(split) == 1:
        return split[0]
    key = key or str(random.getrandbits(64))
    if len(key) > LONG_KEY:
        key = blake2b(key.encode(errors="surrogatepass"), digest_size=32).hexdigest()
    return max(split, key=lambda share: _score(f"{share.model}/{share.version}/{key}", share.percent))


def _score(text: str, percent: int) -> float:
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    return -percent / math.log((number + 0.5) * _SCALE)
