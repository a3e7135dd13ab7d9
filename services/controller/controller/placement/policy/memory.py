"""The memory of a loaded version: measured, else declared, else estimated. Pure.

Measured: the growth of a predictor's GPU memory over a load during which nothing else was loaded or unloaded there.
Declared: `placement.memory` of the ServedModel. Estimated: the size of the version's files times `estimate_factor` plus
`estimate_base_bytes`. The defaults fit a small ONNX model in a Triton without GPU, with a process of 32 MiB for each
version.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from controller.placement.policy.popularity import VersionKey
from controller.placement.settings import PlacementSettings

Source = Literal["measured", "declared", "estimated"]
SETTLE_S = 5.0  # Triton reads its GPU's memory every 2 s


@dataclass(frozen=True)
class Size:
    """Bytes of one loaded version, and their source."""

    bytes: int
    source: Source


class MemorySizes:
    """Sizes of versions."""

    def __init__(self, settings: PlacementSettings) -> None:
        self._settings = settings
        self._measured: dict[VersionKey, Size] = {}

    def size(self, key: VersionKey, declared_bytes: int, file_bytes: int) -> Size:
        """`declared_bytes` is 0 if nothing is declared."""
        if measured := self._measured.get(key):
            return measured
        if declared_bytes:
            return Size(declared_bytes, "declared")
        settings = self._settings
        return Size(int(file_bytes * settings.estimate_factor) + settings.estimate_base_bytes, "estimated")

    def record(self, key: VersionKey, grown_bytes: int) -> None:
        """Record the growth of a predictor's memory. The largest counts, for a memory pool may hide a part."""
        known = self._measured.get(key)
        if grown_bytes > (known.bytes if known else 0):
            self._measured[key] = Size(grown_bytes, "measured")

    def prune(self, models: Container[str]) -> None:
        """Forget models that are not among these."""
        self._measured = {key: size for key, size in self._measured.items() if key[0] in models}


class MemoryMeter:
    """Compares the memory of one predictor at rest before and after one version was loaded."""

    def __init__(self) -> None:
        self._at_rest: tuple[frozenset[VersionKey], int] | None = None  # the ready versions, and the bytes in use
        self._ready: frozenset[VersionKey] | None = None
        self._since_s = 0.0

    def observe(
        self, ready: frozenset[VersionKey], used_bytes: int, now_s: float, *, settled: bool
    ) -> tuple[VersionKey, int] | None:
        """The version that was loaded and the bytes that it took, if that is certain."""
        if not settled or ready != self._ready:
            self._ready, self._since_s = ready, now_s
            return None
        if now_s - self._since_s < SETTLE_S:
            return None
        before, self._at_rest = self._at_rest, (ready, used_bytes)
        if before is None or not before[0] < ready or len(ready - before[0]) != 1:
            return None
        (key,) = ready - before[0]
        return key, used_bytes - before[1]
