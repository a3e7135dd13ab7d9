"""The journal: each decision about a predictor as a log line, and the latest ones for `triptych top`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

MAX_DECISIONS = 200
REFUSAL_INTERVAL_S = 10.0  # between two refusals of one version in the journal

Action = Literal["load", "unload", "refuse", "replicas", "traffic", "predictor"]


@dataclass(frozen=True)
class PlacementDecision:
    """An action or a refusal: place, reason, duration, and outcome (`ok`, or the error)."""

    action: Action
    model: str
    version: int = 0
    predictor: str = ""
    reason: str = ""
    seconds: float = 0.0
    outcome: str = "ok"
    time_s: float = 0.0


class Journal:
    """The latest decisions. Calls each of `listeners` with every decision."""

    def __init__(self, listeners: Iterable[Callable[[PlacementDecision], None]] = ()) -> None:
        self._latest: deque[PlacementDecision] = deque(maxlen=MAX_DECISIONS)
        self._listeners = list(listeners)
        self._refused: dict[tuple[str, int], float] = {}

    @property
    def latest(self) -> tuple[PlacementDecision, ...]:
        """Oldest first."""
        return tuple(self._latest)

    def listen(self, listener: Callable[[PlacementDecision], None]) -> None:
        self._listeners.append(listener)

    def write(
        self,
        action: Action,
        model: str = "",
        version: int = 0,
        predictor: str = "",
        reason: str = "",
        seconds: float = 0.0,
        outcome: str = "ok",
    ) -> None:
        """Write one decision; one with an error is a warning."""
        decision = PlacementDecision(action, model, version, predictor, reason, seconds, outcome, time.time())
        self._latest.append(decision)
        facts = {"model": model, "version": version, "predictor": predictor, "reason": reason, "outcome": outcome}
        level = logging.INFO if outcome == "ok" else logging.WARNING
        log.log(level, action, extra={k: v for k, v in facts.items() if v} | {"seconds": round(seconds, 3)})
        for listener in self._listeners:
            try:
                listener(decision)
            except Exception as error:  # the decision stays in force
                self.fault(error, model)

    def refused(self, model: str, version: int, reason: str) -> None:
        """Write the refusal of a load; repeated ones of a version are left out, for callers retry."""
        now = time.monotonic()
        self._refused = {key: at for key, at in self._refused.items() if now - at < REFUSAL_INTERVAL_S}
        if (model, version) not in self._refused:
            self._refused[model, version] = now
            self.write("refuse", model, version, reason=reason, outcome="refused")

    def fault(self, error: BaseException, model: str) -> None:
        """Log an unforeseen error."""
        log.error("internal error", exc_info=error, extra={"model": model})
