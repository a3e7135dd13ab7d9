"""One rollout: share by share, analysed at each step, and rolled back when the new version is worse.

Each failure rolls back to the traffic of before: a version that cannot be loaded, too few requests, metrics that do not
answer, Ctrl-C.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from triptych_cli.rollout.analysis import FINAL_ANALYSIS, INTERIM_ANALYSIS, find_regressions
from triptych_cli.rollout.metrics.counts import Counts, Window
from triptych_cli.rollout.metrics.sources import MetricSource, MetricSourceError
from triptych_cli.rollout.spec import AnalysisResult, ExitStatus, Reporter, RolloutResult, RolloutSpec, RolloutStatus
from triptych_cli.rollout.targets.target import ConcurrentChange, EffectiveTraffic, RolloutTarget, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit, active_shares, format_split, promoted, split

TICK_S = 1.0
ROLLBACK_ATTEMPTS = 5
HISTORY = 60


@dataclass(frozen=True)
class TimeSource:
    """Time, replaced in tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class RollbackRequired(Exception):
    """The new version must not keep its share; the text says why."""


class RolloutController:
    """One rollout, from the first share to its end."""

    def __init__(
        self,
        spec: RolloutSpec,
        target: RolloutTarget,
        metrics: MetricSource,
        reporter: Reporter,
        time_source: TimeSource | None = None,
    ) -> None:
        self._spec, self._target, self._metrics, self._reporter = spec, target, metrics, reporter
        self._time = time_source or TimeSource()
        self._before = self._desired = target.read()
        self._step_window, self._tick_window = Window(), Window()
        self._recent: deque[tuple[float | None, float | None]] = deque(maxlen=HISTORY)
        self._baseline = Counts()
        self._note = ""
        self._written = False

    def run(self) -> RolloutResult:
        """Run to the end, and roll back on any failure. Nothing is written before everything was read once."""
        self._reporter.started(self._spec, self._target.where, self._before)
        try:
            result = self._run()
        except KeyboardInterrupt:
            result = self._roll_back("interrupted")
        self._reporter.finished(result)
        return result

    def _run(self) -> RolloutResult:
        try:
            self._target.check_version(self._spec.to)
            self._step_window.add(self._metrics.read())
            for share in self._spec.steps:
                self._step(share)
            return self._promote()
        except ConcurrentChange as error:
            status = ExitStatus.NOTHING_CHANGED if self._desired == self._before else ExitStatus.ABANDONED
            return RolloutResult(status, str(error), self._desired)
        except (RollbackRequired, TargetError, MetricSourceError) as error:
            return self._roll_back(str(error))

    def _step(self, share: int) -> None:
        self._write(split(self._before, self._spec.to, share))
        self._wait_effective(share)
        self._read_metrics()
        self._step_window.open()
        result = self._hold(share)
        self._reporter.step_finished(result)
        if result.conclusion != "good":
            raise RollbackRequired(f"at {share} %: {'; '.join(result.reasons)}")
        # Without its latency, because the speed of the machines then says nothing about a version in a later step.
        self._baseline = replace(result.old, latency_buckets=Counter())

    def _write(self, traffic: TrafficSplit) -> None:
        self._written = True
        self._target.write(traffic)
        self._desired = traffic

    def _wait_effective(self, share: int) -> None:
        """Wait until the version is loaded and has its share. Until then nothing is counted."""
        end = self._time.now() + self._spec.gate_timeout_s
        while True:
            effective = self._effective_traffic()
            if self._is_effective(effective, self._desired):
                return
            if effective.refused:
                raise RollbackRequired(f"version {self._spec.to} does not get its share: {effective.reason}")
            left_s = end - self._time.now()
            if left_s <= 0:
                timeout = f"{format_split(self._desired)} was not in force after {self._spec.gate_timeout_s:g} s"
                why = effective.reason or "nothing says why; see the log of the controller"
                raise RollbackRequired(f"{timeout}: {why}")
            phase = "waiting until it is in force"
            self._report(phase, share, effective.traffic or self._before, left_s, effective.reason)
            self._time.sleep(min(TICK_S / 2, left_s))

    def _hold(self, share: int) -> AnalysisResult:
        """Analyse one share until its hold is over with enough requests, the version is worse, or time is up."""
        spec, start, lost_at = self._spec, self._time.now(), None
        while True:
            self._time.sleep(TICK_S)
            self._read_metrics()
            held_s = self._time.now() - start
            old, new = self._counts()
            due = held_s >= spec.hold_s
            # Answers of the new version: if all requests fail on both sides, neither is worse, and nothing is known.
            enough = min(old.requests, new.answered) >= spec.tolerances.min_requests
            confidence = FINAL_ANALYSIS if due and enough else INTERIM_ANALYSIS
            if reasons := find_regressions(old, new, spec.tolerances, confidence):
                return AnalysisResult(share, "worse", held_s, old, new, reasons)
            if due and enough:
                return AnalysisResult(share, "good", held_s, old, new, ())
            if held_s >= max(spec.hold_s, spec.max_hold_s):
                reasons = (self._too_few(old, new, held_s),)
                return AnalysisResult(share, "too few requests", held_s, old, new, reasons)
            lost_at = self._check_still_effective(lost_at)
            limit_s = spec.max_hold_s if due else spec.hold_s
            phase = "waiting for more requests" if due else "watching"
            self._report(phase, share, self._desired, limit_s - held_s, self._note)

    def _counts(self) -> tuple[Counts, Counts]:
        """The old and the new version within this step; the old one's last step is added if it has hardly any."""
        by_version = self._step_window.counts()
        new = by_version.get(self._spec.to, Counts())
        others = active_shares(self._before).keys() - {self._spec.to}
        old = sum((by_version[version] for version in others & by_version.keys()), Counts())
        if old.requests < self._spec.tolerances.min_requests:
            old = old + self._baseline
        return old, new

    def _too_few(self, old: Counts, new: Counts, held_s: float) -> str:
        to = self._spec.to
        text = f"only {new.answered} answers of version {to} to {new.requests} requests, {old.requests} to the old"
        text += f", in {held_s:.0f} s"
        wanted = f"{self._spec.tolerances.min_requests} are wanted for an analysis"
        return f"{text}; {wanted}" + (f" ({self._note})" if self._note else "")

    def _check_still_effective(self, lost_at: float | None) -> float | None:
        """The time since which the effective traffic differs from the desired one, or None.

        Raises `RollbackRequired` if that lasts, and `ConcurrentChange` if someone else wrote the traffic.
        """
        try:
            if self._target.read() != self._desired:
                raise ConcurrentChange(f"{self._target.where} was changed by someone else; it is left as it is")
            effective = self._target.effective_traffic()
        except ConcurrentChange:
            raise
        except TargetError as error:
            self._note = str(error)
            return lost_at
        if self._is_effective(effective, self._desired):
            return None
        lost_at = lost_at if lost_at is not None else self._time.now()
        if effective.refused or self._time.now() - lost_at > self._spec.gate_timeout_s:
            reason = effective.reason or "nothing says why"
            raise RollbackRequired(f"version {self._spec.to} lost its share: {reason}")
        return lost_at

    def _promote(self) -> RolloutResult:
        share, to = self._spec.steps[-1], self._spec.to
        if share < 100:
            text = f"version {to} stays at {share} %, the last step"
            return RolloutResult(ExitStatus.PROMOTED, text, self._desired)
        try:
            self._write(promoted(self._before, to))
        except TargetError as error:
            text = f"version {to} has 100 %; the old versions' entries are still there: {error}"
            return RolloutResult(ExitStatus.PROMOTED, text, self._desired)
        return RolloutResult(ExitStatus.PROMOTED, f"version {to} has 100 %", self._desired)

    def _roll_back(self, reason: str) -> RolloutResult:
        if self._is_unchanged():
            return RolloutResult(ExitStatus.NOTHING_CHANGED, reason, self._before)
        advice = f"write {format_split(self._before)} into {self._target.where} yourself"
        try:
            self._report("rolling back", 0, self._desired, self._spec.gate_timeout_s, reason)
            fault = self._write_rollback() or self._wait_rolled_back()
        except KeyboardInterrupt:
            text = f"{reason}; left as it is, interrupted while rolling back; {advice}"
            return RolloutResult(ExitStatus.ABANDONED, text, self._desired)
        if fault:
            text = f"{reason}; could not roll back: {fault}; {advice}"
            return RolloutResult(ExitStatus.ABANDONED, text, self._desired)
        return RolloutResult(ExitStatus.ROLLED_BACK, reason, self._before)

    def _is_unchanged(self) -> bool:
        """Whether no write took effect; the first may have failed, or been interrupted before or after it did."""
        if not self._written or self._desired != self._before:
            return not self._written
        try:
            return self._target.read() == self._before
        except TargetError:
            return False

    def _write_rollback(self) -> str:
        """Write the traffic of before. Returns the last error if each attempt failed, else an empty text."""
        fault = ""
        for _ in range(ROLLBACK_ATTEMPTS):
            try:
                self._write(self._before)
                return ""
            except ConcurrentChange as error:
                return str(error)
            except TargetError as error:
                fault = str(error)
                self._time.sleep(TICK_S)
        return fault

    def _wait_rolled_back(self) -> str:
        """Wait until the traffic of before is in force. Returns why it is not, else an empty text."""
        end = self._time.now() + self._spec.gate_timeout_s
        effective = self._effective_traffic()
        while not self._is_effective(effective, self._before):
            if self._time.now() >= end:
                reason = effective.reason or "no reason"
                return f"it is written, but not in force after {self._spec.gate_timeout_s:g} s: {reason}"
            self._time.sleep(TICK_S / 2)
            effective = self._effective_traffic()
        return ""

    def _effective_traffic(self) -> EffectiveTraffic:
        try:
            return self._target.effective_traffic()
        except TargetError as error:
            return EffectiveTraffic(None, str(error))

    @staticmethod
    def _is_effective(effective: EffectiveTraffic, wanted: TrafficSplit) -> bool:
        return effective.traffic is not None and active_shares(effective.traffic) == active_shares(wanted)

    def _read_metrics(self) -> None:
        try:
            reading = self._metrics.read()
        except MetricSourceError as error:
            self._note = str(error)
            return
        self._note = "; ".join(reading.faults)
        self._step_window.add(reading)
        self._tick_window.open()
        self._tick_window.add(reading)
        by_version = dict(self._tick_window.counts())
        new = by_version.pop(self._spec.to, Counts())
        self._recent.append((sum(by_version.values(), Counts()).quantile(0.5), new.quantile(0.5)))

    def _report(self, phase: str, share: int, traffic: TrafficSplit, left_s: float, note: str) -> None:
        old, new = self._counts()
        status = RolloutStatus(phase, share, traffic, old, new, max(0.0, left_s), tuple(self._recent), note)
        self._reporter.progress(status)
