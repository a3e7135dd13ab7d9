"""Downloads that failed, by version or file, with the time of the next try. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.store.keys import unit_of
from controller.store.objects import Object

RETRY_S, LONGEST_RETRY_S = 10.0, 600.0  # pause after the second failure: the object may be large


@dataclass(frozen=True)
class _Failure:
    """The key of the object, the reason, and the files of the version as they were listed."""

    key: str
    why: str
    files: Mapping[str, Object]
    retry_at_s: float
    pause_s: float


class FailedDownloads:
    """Failures by unit: a version, or a file of a model. Tries are spaced by an exponential backoff."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: dict[str, _Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failed)

    @property
    def by_key(self) -> dict[str, str]:
        """Reasons by the key of the object that failed."""
        return {failure.key: failure.why for failure in self._failed.values()}

    def due(self, wanted: Mapping[str, Object]) -> dict[str, Object]:
        """The objects without units that failed, did not change since, and still wait for their next try."""
        now_s = self._clock()
        self._failed = {
            unit: failure for unit, failure in self._failed.items() if failure.files == _of_unit(unit, wanted)
        }
        waits = {unit for unit, failure in self._failed.items() if now_s < failure.retry_at_s}
        return {path: known for path, known in wanted.items() if unit_of(path) not in waits}

    def fail(self, unit: str, key: str, why: str, wanted: Mapping[str, Object]) -> None:
        """Record a failure. The first one is tried again at once, later ones after growing pauses."""
        before = self._failed.get(unit)
        pause_s = min(before.pause_s * 2 or RETRY_S, LONGEST_RETRY_S) if before else 0.0
        self._failed[unit] = _Failure(key, why, _of_unit(unit, wanted), self._clock() + pause_s, pause_s)

    def forget(self, path: str) -> None:
        """Drop the failure of a unit that was downloaded."""
        self._failed.pop(unit_of(path), None)


def _of_unit(unit: str, wanted: Mapping[str, Object]) -> dict[str, Object]:
    return {path: known for path, known in wanted.items() if unit_of(path) == unit}
