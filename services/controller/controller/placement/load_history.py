"""Failed loads of each version: the last failure, and crashes of predictors during its loads."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from datetime import UTC, datetime

from controller.placement.policy.popularity import VersionKey
from controller.placement.settings import PlacementSettings


class LoadHistory:
    """Failures by version. `now_s` is any clock that never goes back."""

    def __init__(self, settings: PlacementSettings) -> None:
        self._settings = settings
        self._failed: dict[VersionKey, tuple[str, str]] = {}  # reason, and since when no load succeeded
        self._crashes: dict[VersionKey, list[float]] = {}

    def record_failure(self, key: VersionKey, reason: str) -> None:
        """Record that Triton could not load the version."""
        since = self._failed.get(key, ("", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")))[1]
        self._failed[key] = (reason, since)

    def record_crash(self, key: VersionKey, now_s: float) -> None:
        """Record that a predictor became unavailable while it loaded the version."""
        ttl_s = self._settings.failure_ttl_s
        recent = [at for at in self._crashes.get(key, ()) if now_s - at < ttl_s]
        self._crashes[key] = [*recent, now_s]

    def record_ready(self, keys: Iterable[VersionKey]) -> None:
        """Forget the failures of versions that a predictor has ready."""
        if self._failed:
            for key in keys:
                self._failed.pop(key, None)

    def last_failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reason, start and next try of each version whose last load failed."""
        ttl_s = self._settings.failure_ttl_s
        again = f"it is tried again when it is needed, at most every {ttl_s:g} s"
        found = {version: self._failed[model, version] for version in versions if (model, version) in self._failed}
        return {version: f"{reason} (fails since {since}; {again})" for version, (reason, since) in found.items()}

    def recent_crashes(self, key: VersionKey, now_s: float) -> int:
        """Predictors that recently became unavailable during its loads; with any it is not loaded unasked."""
        return sum(now_s - at < self._settings.failure_ttl_s for at in self._crashes.get(key, ()))

    def prune(self, models: Container[str], now_s: float) -> None:
        """Forget models that are not among these, and crashes that no longer count."""
        self._failed = {key: why for key, why in self._failed.items() if key[0] in models}
        ttl_s = self._settings.failure_ttl_s
        self._crashes = {key: times for key, times in self._crashes.items() if now_s - times[-1] < ttl_s}
