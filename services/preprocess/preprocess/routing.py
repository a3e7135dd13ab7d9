"""Which version answers a request that names none.

Weighted rendezvous hashing: each version scores the key, -percent / ln(h) with h in (0, 1) from a hash of version and
key, and the highest wins (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005). A version wins
exactly its share of the keys, and a key changes its version only towards one whose share grew or away from one whose
share shrank: going from 5 % to 10 % moves no key that was in the 5 %.
"""

from __future__ import annotations

import math
import random
from hashlib import blake2b

from triptych.errors import Unavailable
from triptych.proto import repository_pb2 as rp

_SCALE = 2.0**-64


def choose_version(model: rp.Model, key: str) -> rp.Version:
    """The version for a key, always the same while the split stands; an empty key is a random one."""
    candidates = [version for version in model.versions if version.percent]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise Unavailable(f"model '{model.name}' has no version that takes traffic; name one with model_version")
    key = key or str(random.getrandbits(64))
    return max(candidates, key=lambda version: _score(f"{model.name}/{version.version}/{key}", version.percent))


def _score(text: str, percent: int) -> float:
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
    return -percent / math.log((number + 0.5) * _SCALE)
