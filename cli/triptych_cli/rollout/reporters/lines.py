"""Reporters of a rollout that write lines: sentences for people and logs, or JSON for programs."""

from __future__ import annotations

import json
from typing import Any, TextIO

from triptych_cli.rollout.metrics.counts import Counts
from triptych_cli.rollout.spec import AnalysisResult, ExitStatus, RolloutResult, RolloutSpec, RolloutStatus
from triptych_cli.rollout.traffic_split import TrafficSplit, format_split

EXIT_TEXT = {
    ExitStatus.PROMOTED: "promoted",
    ExitStatus.ROLLED_BACK: "rolled back",
    ExitStatus.NOTHING_CHANGED: "nothing was changed",
    ExitStatus.ABANDONED: "left as it is",
}


class LineReporter:
    """A line for each change, for a log or a pipe."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._last = out, ("", 0, "")

    def started(self, spec: RolloutSpec, where: str, before: TrafficSplit) -> None:
        steps = ", ".join(f"{share} %" for share in spec.steps)
        self._write(f"{spec.model}: version {spec.to} to {steps}, each for {spec.hold_s:g} s")
        self._write(f"now {format_split(before)} ({where})")

    def progress(self, status: RolloutStatus) -> None:
        """Write a line only for another phase, share or note."""
        now = status.phase, status.share, status.note
        if now != self._last:
            self._last = now
            self._write(f"{status.share} %: {status.phase}" + (f": {status.note}" if status.note else ""))

    def step_finished(self, result: AnalysisResult) -> None:
        self._write(f"{result.share} %: {result.conclusion} after {result.held_s:.0f} s")
        self._write(f"  old: {format_counts(result.old)}")
        self._write(f"  new: {format_counts(result.new)}")

    def finished(self, result: RolloutResult) -> None:
        self._write(f"{EXIT_TEXT[result.exit_status]}: {result.reason}")
        self._write(f"traffic: {format_split(result.traffic)}")

    def _write(self, line: str) -> None:
        self._out.write(line + "\n")
        self._out.flush()


class JsonReporter:
    """One line of JSON for each step, and one for the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def started(self, spec: RolloutSpec, where: str, before: TrafficSplit) -> None:
        """Nothing: the lines of the steps hold all of it."""

    def progress(self, status: RolloutStatus) -> None:
        """Nothing: a program reads the steps."""

    def step_finished(self, result: AnalysisResult) -> None:
        self._write(
            {
                "step": result.share,
                "conclusion": result.conclusion,
                "held_s": round(result.held_s, 1),
                "old": as_json(result.old),
                "new": as_json(result.new),
                "reasons": list(result.reasons),
            }
        )

    def finished(self, result: RolloutResult) -> None:
        self._write(
            {
                "outcome": EXIT_TEXT[result.exit_status],
                "exit": int(result.exit_status),
                "reason": result.reason,
                "traffic": dict(result.traffic),
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._out.flush()


def format_counts(counts: Counts) -> str:
    """`4750 requests, 0.4 % failed, p50 3.1 ms, p99 8 ms`."""
    parts = [f"{counts.requests} requests", f"{100 * counts.error_rate:.2g} % failed"]
    for name, quantile in (("p50", 0.5), ("p99", 0.99)):
        if (seconds := counts.quantile(quantile)) is not None:
            parts.append(f"{name} {format_ms(seconds)}")
    return ", ".join(parts)


def format_ms(seconds: float | None) -> str:
    """`3.1 ms`; `-` for None."""
    return "-" if seconds is None else f"{1000 * seconds:.3g} ms"


def as_json(counts: Counts) -> dict[str, Any]:
    """The counts with plain types, latencies in seconds."""
    return {
        "requests": counts.requests,
        "errors": counts.errors,
        "codes": {code: count for code, count in sorted(counts.codes.items()) if count},
        "p50_s": counts.quantile(0.5),
        "p99_s": counts.quantile(0.99),
        "answers": {value: count for value, count in sorted(counts.answers.items()) if count},
    }
