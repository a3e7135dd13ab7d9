"""Every decision about a Triton, once: a log line, a count, and the latest ones for `top`."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

KEPT = 200
REFUSED_S = 10.0

Action = Literal["load", "unload", "refuse", "copies", "traffic", "predictor"]


@dataclass(frozen=True)
class Decision:
    """What was done or refused, where, why, how long it took, and how it ended (`ok`, or what went wrong)."""

    action: Action
    model: str
    version: int = 0
    predictor: str = ""
    reason: str = ""
    seconds: float = 0.0
    outcome: str = "ok"
    time_s: float = 0.0


class Journal:
    """The latest decisions. `listeners` hear each of them."""

    def __init__(self, listeners: Iterable[Callable[[Decision], None]] = ()) -> None:
        self._latest: deque[Decision] = deque(maxlen=KEPT)
        self._listeners = list(listeners)
        self._refused: dict[tuple[str, int], float] = {}

    @property
    def latest(self) -> tuple[Decision, ...]:
        """Oldest first."""
        return tuple(self._latest)

    def listen(self, listener: Callable[[Decision], None]) -> None:
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
        """One decision; what did not end well is a warning."""
        decision = Decision(action, model, version, predictor, reason, seconds, outcome, time.time())
        self._latest.append(decision)
        facts = {"model": model, "version": version, "predictor": predictor, "reason": reason, "outcome": outcome}
        level = logging.INFO if outcome == "ok" else logging.WARNING
        log.log(level, action, extra={k: v for k, v in facts.items() if v} | {"seconds": round(seconds, 3)})
        for listener in self._listeners:
            try:
                listener(decision)
            except Exception as error:  # what was decided stands
                self.fault(error, model)

    def refused(self, model: str, version: int, reason: str) -> None:
        """The refusal of a load; only the first of a version in a while, for callers come back."""
        now = time.monotonic()
        self._refused = {key: at for key, at in self._refused.items() if now - at < REFUSED_S}
        if (model, version) not in self._refused:
            self._refused[model, version] = now
            self.write("refuse", model, version, reason=reason, outcome="refused")

    def fault(self, error: BaseException, model: str) -> None:
        """Something that nobody foresaw."""
        log.error("internal error", exc_info=error, extra={"model": model})
