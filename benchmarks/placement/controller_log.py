"""Loads and unloads, read from the controller's log."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

AT_ONCE_S = 0.05  # between the end of an unload and the beginning of what waited for it


@dataclass(frozen=True)
class PlacementEvent:
    """A load or unload, on the clock of `time.time`. `seconds` is its duration without the wait in the queue."""

    action: str
    model: str
    ended_s: float
    seconds: float
    reason: str

    @property
    def began_s(self) -> float:
        return self.ended_s - self.seconds


def read(log: Path) -> list[PlacementEvent]:
    """Successful loads and unloads in a log file."""
    events = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("message") in ("load", "unload") and said.get("outcome") == "ok":
            ended_s = datetime.fromisoformat(said["timestamp"]).timestamp()
            events.append(
                PlacementEvent(said["message"], said["model"], ended_s, said["seconds"], said.get("reason", ""))
            )
    return events


class Loads:
    """Loads by model."""

    def __init__(self, events: Iterable[PlacementEvent]) -> None:
        self._by_model: defaultdict[str, list[PlacementEvent]] = defaultdict(list)
        for event in events:
            if event.action == "load":
                self._by_model[event.model].append(event)

    @property
    def by_model(self) -> Mapping[str, Sequence[PlacementEvent]]:
        return self._by_model

    def waited_for(self, model: str, sent_s: float, answered_s: float) -> PlacementEvent | None:
        """The load that a request waited for: one that ended between sending and answer."""
        return next((event for event in self._by_model[model] if sent_s <= event.ended_s <= answered_s), None)

    def running(self, at_s: float) -> int:
        """Number of loads in progress at a moment."""
        return sum(event.began_s <= at_s < event.ended_s for events in self._by_model.values() for event in events)


def waited_for_unload(events: Iterable[PlacementEvent], load: PlacementEvent, sent_s: float) -> bool:
    """Whether a load began right after an unload that ended after the request was sent."""
    return any(
        event.action == "unload" and event.ended_s > sent_s and 0 <= load.began_s - event.ended_s <= AT_ONCE_S
        for event in events
    )
