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
class Move:
    """A load or unload, on the clock of `time.time`. `seconds` is its duration without the wait in the queue."""

    action: str
    model: str
    ended_s: float
    seconds: float
    reason: str

    @property
    def began_s(self) -> float:
        return self.ended_s - self.seconds


def read(log: Path) -> list[Move]:
    """Successful loads and unloads in a log file."""
    moves = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("message") in ("load", "unload") and said.get("outcome") == "ok":
            ended_s = datetime.fromisoformat(said["timestamp"]).timestamp()
            moves.append(Move(said["message"], said["model"], ended_s, said["seconds"], said.get("reason", "")))
    return moves


class Loads:
    """Loads by model."""

    def __init__(self, moves: Iterable[Move]) -> None:
        self._by_model: defaultdict[str, list[Move]] = defaultdict(list)
        for move in moves:
            if move.action == "load":
                self._by_model[move.model].append(move)

    @property
    def by_model(self) -> Mapping[str, Sequence[Move]]:
        return self._by_model

    def waited_for(self, model: str, sent_s: float, answered_s: float) -> Move | None:
        """The load that a request waited for: one that ended between sending and answer."""
        return next((move for move in self._by_model[model] if sent_s <= move.ended_s <= answered_s), None)

    def running(self, at_s: float) -> int:
        """Number of loads in progress at a moment."""
        return sum(move.began_s <= at_s < move.ended_s for moves in self._by_model.values() for move in moves)


def waited_for_unload(moves: Iterable[Move], load: Move, sent_s: float) -> bool:
    """Whether a load began right after an unload that ended after the request was sent."""
    return any(
        move.action == "unload" and move.ended_s > sent_s and 0 <= load.began_s - move.ended_s <= AT_ONCE_S
        for move in moves
    )
