"""The course of a rollout as lines: sentences for people and logs, or JSON for programs."""

from __future__ import annotations

import json
from typing import Any, TextIO

from triptych_cli.rollout.counts import Counts
from triptych_cli.rollout.plan import Traffic, spell
from triptych_cli.rollout.spec import End, Outcome, Verdict, View, Wish

WORDS = {
    End.PROMOTED: "promoted",
    End.ROLLED_BACK: "rolled back",
    End.NOTHING_CHANGED: "nothing was changed",
    End.LEFT: "left as it is",
}


class Lines:
    """A line for each change, for a log or a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._last = out, ("", 0, "")

    def begin(self, wish: Wish, where: str, before: Traffic) -> None:
        steps = ", ".join(f"{share} %" for share in wish.steps)
        self._say(f"{wish.model}: version {wish.to} to {steps}, each for {wish.hold_s:g} s")
        self._say(f"now {spell(before)} ({where})")

    def tick(self, view: View) -> None:
        """Only what changed: a new phase, another share, another note."""
        now = view.phase, view.share, view.note
        if now != self._last:
            self._last = now
            self._say(f"{view.share} %: {view.phase}" + (f": {view.note}" if view.note else ""))

    def step(self, verdict: Verdict) -> None:
        self._say(f"{verdict.share} %: {verdict.verdict} after {verdict.held_s:.0f} s")
        self._say(f"  old: {figures(verdict.old)}")
        self._say(f"  new: {figures(verdict.new)}")

    def end(self, outcome: Outcome) -> None:
        self._say(f"{WORDS[outcome.end]}: {outcome.reason}")
        self._say(f"traffic: {spell(outcome.traffic)}")

    def _say(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class JsonLines:
    """One line for each step, and one for the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, wish: Wish, where: str, before: Traffic) -> None:
        """The steps say it all."""

    def tick(self, view: View) -> None:
        """Too much for a program."""

    def step(self, verdict: Verdict) -> None:
        self._write(
            {
                "step": verdict.share,
                "verdict": verdict.verdict,
                "held_s": round(verdict.held_s, 1),
                "old": as_json(verdict.old),
                "new": as_json(verdict.new),
                "reasons": list(verdict.reasons),
            }
        )

    def end(self, outcome: Outcome) -> None:
        self._write(
            {
                "outcome": WORDS[outcome.end],
                "exit": int(outcome.end),
                "reason": outcome.reason,
                "traffic": dict(outcome.traffic),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._out.flush()


def figures(counts: Counts) -> str:
    """`4750 requests, 0.4 % failed, p50 3.1 ms, p99 8 ms`."""
    parts = [f"{counts.requests} requests", f"{100 * counts.error_rate:.2g} % failed"]
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        if (seconds := counts.quantile(part)) is not None:
            parts.append(f"{name} {milliseconds(seconds)}")
    return ", ".join(parts)


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.3g} ms"


def as_json(counts: Counts) -> dict[str, Any]:
    return {
        "requests": counts.requests,
        "errors": counts.errors,
        "codes": {code: count for code, count in sorted(counts.codes.items()) if count},
        "p50_s": counts.quantile(0.5),
        "p99_s": counts.quantile(0.99),
        "answers": {value: count for value, count in sorted(counts.answers.items()) if count},
    }
