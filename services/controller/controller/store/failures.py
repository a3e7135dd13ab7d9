"""Which versions and files of a store could not be read, and when each is tried again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.store.keys import unit_of
from controller.store.objects import Object

RETRY_S, LONGEST_RETRY_S = 10.0, 600.0  # before what failed twice is read again: it may be large


@dataclass(frozen=True)
class _Failure:
    """The key of the object, the sentence about it, and the files of the version as they were listed."""

    key: str
    why: str
    files: Mapping[str, Object]
    retry_at_s: float
    pause_s: float


class FailedDownloads:
    """By version, or by file of a model."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[str, _Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failed)

    @property
    def by_key(self) -> dict[str, str]:
        """Sentences by the key of the object that failed."""
        return {failure.key: failure.why for failure in self._failed.values()}

    def due(self, wanted: Mapping[str, Object]) -> dict[str, Object]:
        """Without what failed before, is listed as it was then, and is not to be tried again yet."""
        now_s = self._clock()
        self._failed = {
            unit: failure for unit, failure in self._failed.items() if failure.files == _of_unit(unit, wanted)
        }
        waits = {unit for unit, failure in self._failed.items() if now_s < failure.retry_at_s}
        return {path: known for path, known in wanted.items() if unit_of(path) not in waits}

    def fail(self, unit: str, key: str, why: str, wanted: Mapping[str, Object]) -> None:
        """The first time it is tried again with the next look, then after pauses that grow."""
        before = self._failed.get(unit)
        pause_s = min(before.pause_s * 2 or RETRY_S, LONGEST_RETRY_S) if before else 0.0
        self._failed[unit] = _Failure(key, why, _of_unit(unit, wanted), self._clock() + pause_s, pause_s)

    def forget(self, path: str) -> None:
        """The file came, and so did its version."""
        self._failed.pop(unit_of(path), None)


def _of_unit(unit: str, wanted: Mapping[str, Object]) -> dict[str, Object]:
    return {path: known for path, known in wanted.items() if unit_of(path) == unit}
