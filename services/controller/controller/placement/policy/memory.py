"""How much memory a loaded version takes: measured, else declared, else estimated. Pure.

Measured: the change of a Triton's GPU memory over a load during which nothing else was loaded or unloaded there.
Declared: `placement.memory` of the ServedModel. Estimated: size of the version's files times `estimate_factor` plus
`estimate_base_bytes`; the defaults are those of a small ONNX model in a Triton without GPU, a process of 32 MiB for
each version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from controller.placement.policy.popularity import Key
from controller.placement.settings import Limits

Source = Literal["measured", "declared", "estimated"]
REST_S = 5.0  # Triton reads its GPU's memory every 2 s


@dataclass(frozen=True)
class Size:
    """Bytes of one loaded version, and how they are known."""

    bytes: int
    source: Source


class Memory:
    """Sizes of versions."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._measured: dict[Key, Size] = {}

    def size(self, key: Key, declared_bytes: int, file_bytes: int) -> Size:
        """`declared_bytes` 0: nothing is declared."""
        if measured := self._measured.get(key):
            return measured
        if declared_bytes:
            return Size(declared_bytes, "declared")
        return Size(int(file_bytes * self._limits.estimate_factor) + self._limits.estimate_base_bytes, "estimated")

    def measured(self, key: Key, grown_bytes: int) -> None:
        """What the memory of a Triton grew by: the most of all times, for a pool of memory may hide a part."""
        known = self._measured.get(key)
        if grown_bytes > (known.bytes if known else 0):
            self._measured[key] = Size(grown_bytes, "measured")

    def keep(self, known: Mapping[str, object]) -> None:
        """Forgets models that are gone."""
        self._measured = {key: size for key, size in self._measured.items() if key[0] in known}


class Meter:
    """Compares the memory of one Triton at rest before and after one version came."""

    def __init__(self) -> None:
        self._rest: tuple[frozenset[Key], int] | None = None  # what was ready, and the bytes in use
        self._same: tuple[frozenset[Key] | None, float] = (None, 0.0)  # what is ready, and since when

    def see(self, ready: frozenset[Key], used_bytes: int, now_s: float, *, settled: bool) -> tuple[Key, int] | None:
        """A version and the bytes that it took, when that can be told."""
        if not settled or ready != self._same[0]:
            self._same = (ready, now_s)
            return None
        if now_s - self._same[1] < REST_S:
            return None
        before, self._rest = self._rest, (ready, used_bytes)
        if before is None or not before[0] < ready or len(ready - before[0]) != 1:
            return None
        (key,) = ready - before[0]
        return key, used_bytes - before[1]
