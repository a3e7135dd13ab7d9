"""The course of a rollout: share by share, watched, and back to where it was when the new version is worse.

What fails, fails safe: a version that cannot be loaded, too few requests to judge by, metrics that are gone, Ctrl-C:
all end with the traffic that was there before.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from triptych_cli.rollout.analysis import AT_THE_END, ON_THE_WAY, worse
from triptych_cli.rollout.counts import Counts, Window
from triptych_cli.rollout.metric_sources import Signals, SignalsError
from triptych_cli.rollout.plan import Traffic, promoted, spell, split, taking
from triptych_cli.rollout.spec import End, Outcome, Show, Verdict, View, Wish
from triptych_cli.rollout.target import ChangedByOther, InForce, Target, TargetError

TICK_S = 1.0
BACK_TRIES = 5
HISTORY = 60


@dataclass(frozen=True)
class Clock:
    """Time, to be replaced in tests."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Worse(Exception):
    """The new version must not keep its share; the text says why."""


class Course:
    """One rollout, from the first share to its end."""

    def __init__(self, wish: Wish, target: Target, signals: Signals, show: Show, clock: Clock | None = None) -> None:
        self._wish, self._target, self._signals, self._show = wish, target, signals, show
        self._clock = clock or Clock()
        self._before = self._asked = target.read()
        self._window, self._moment = Window(), Window()
        self._recent: deque[tuple[float | None, float | None]] = deque(maxlen=HISTORY)
        self._baseline = Counts()
        self._note = ""
        self._touched = False

    def run(self) -> Outcome:
        """Whatever goes wrong, it goes back, and the outcome says why. Nothing is written before all was seen once."""
        self._show.begin(self._wish, self._target.where, self._before)
        try:
            outcome = self._run()
        except KeyboardInterrupt:
            outcome = self._back("interrupted")
        self._show.end(outcome)
        return outcome

    def _run(self) -> Outcome:
        try:
            self._target.check(self._wish.to)
            self._window.add(self._signals.read())
            for share in self._wish.steps:
                self._step(share)
            return self._promoted()
        except ChangedByOther as error:
            return Outcome(End.NOTHING_CHANGED if self._asked == self._before else End.LEFT, str(error), self._asked)
        except (Worse, TargetError, SignalsError) as error:
            return self._back(str(error))

    def _step(self, share: int) -> None:
        self._write(split(self._before, self._wish.to, share))
        self._wait_in_force(share)
        self._read()
        self._window.open()
        verdict = self._hold(share)
        self._show.step(verdict)
        if verdict.verdict != "good":
            raise Worse(f"at {share} %: {'; '.join(verdict.reasons)}")
        # Without its latency: how fast the machines were says nothing of a version in a later step.
        self._baseline = replace(verdict.old, seconds=Counter())

    def _write(self, traffic: Traffic) -> None:
        self._touched = True
        self._target.write(traffic)
        self._asked = traffic

    def _wait_in_force(self, share: int) -> None:
        """The version is loaded before it gets its share; until then nothing is counted."""
        end = self._clock.now() + self._wish.gate_s
        while True:
            state = self._state()
            if state.traffic is not None and taking(state.traffic) == taking(self._asked):
                return
            if state.refused:
                raise Worse(f"version {self._wish.to} does not get its share: {state.reason}")
            left_s = end - self._clock.now()
            if left_s <= 0:
                why = state.reason or "nothing says why; see the log of the controller"
                raise Worse(f"{spell(self._asked)} was not in force after {self._wish.gate_s:g} s: {why}")
            self._look("waiting until it is in force", share, state.traffic or self._before, left_s, state.reason)
            self._clock.sleep(min(TICK_S / 2, left_s))

    def _hold(self, share: int) -> Verdict:
        """Watches one share, until it is held long enough with enough requests, or is worse, or time is up."""
        start, lost_at = self._clock.now(), None
        while True:
            self._clock.sleep(TICK_S)
            self._read()
            held_s = self._clock.now() - start
            old, new = self._sides()
            due = held_s >= self._wish.hold_s
            # Answers, of the new: when all requests fail on both sides, neither is worse, and nothing is known.
            enough = min(old.requests, new.answered) >= self._wish.limits.min_requests
            certainty = AT_THE_END if due and enough else ON_THE_WAY
            if reasons := worse(old, new, self._wish.limits, certainty):
                return Verdict(share, "worse", held_s, old, new, reasons)
            if due and enough:
                return Verdict(share, "good", held_s, old, new, ())
            if held_s >= max(self._wish.hold_s, self._wish.max_hold_s):
                return Verdict(share, "too few requests", held_s, old, new, (self._too_few(old, new, held_s),))
            lost_at = self._check_still_there(lost_at)
            limit_s = self._wish.max_hold_s if due else self._wish.hold_s
            phase = "waiting for more requests" if due else "watching"
            self._look(phase, share, self._asked, limit_s - held_s, self._note)

    def _sides(self) -> tuple[Counts, Counts]:
        """The old and the new within this step; the old of the step before helps out where it has hardly any."""
        by_version = self._window.counts()
        new = by_version.get(self._wish.to, Counts())
        others = taking(self._before).keys() - {self._wish.to}
        old = sum((by_version[version] for version in others & by_version.keys()), Counts())
        if old.requests < self._wish.limits.min_requests:
            old = old + self._baseline
        return old, new

    def _too_few(self, old: Counts, new: Counts, held_s: float) -> str:
        to = self._wish.to
        text = f"only {new.answered} answers of version {to} to {new.requests} requests, {old.requests} to the old"
        text += f", in {held_s:.0f} s"
        wanted = f"{self._wish.limits.min_requests} are wanted to judge by"
        return f"{text}; {wanted}" + (f" ({self._note})" if self._note else "")

    def _check_still_there(self, lost_at: float | None) -> float | None:
        """Since when requests meet another traffic than asked for. Raises when it stays so, or someone changed it."""
        try:
            if self._target.read() != self._asked:
                raise ChangedByOther(f"{self._target.where} was changed by someone else; it is left as it is")
            state = self._target.in_force()
        except ChangedByOther:
            raise
        except TargetError as error:
            self._note = str(error)
            return lost_at
        if state.traffic is not None and taking(state.traffic) == taking(self._asked):
            return None
        lost_at = lost_at if lost_at is not None else self._clock.now()
        if state.refused or self._clock.now() - lost_at > self._wish.gate_s:
            raise Worse(f"version {self._wish.to} lost its share: {state.reason or 'nothing says why'}")
        return lost_at

    def _promoted(self) -> Outcome:
        share, to = self._wish.steps[-1], self._wish.to
        if share < 100:
            return Outcome(End.PROMOTED, f"version {to} stays at {share} %, the last step", self._asked)
        try:
            self._write(promoted(self._before, to))
        except TargetError as error:
            text = f"version {to} has 100 %; the old versions' entries are still there: {error}"
            return Outcome(End.PROMOTED, text, self._asked)
        return Outcome(End.PROMOTED, f"version {to} has 100 %", self._asked)

    def _back(self, reason: str) -> Outcome:
        if self._is_untouched():
            return Outcome(End.NOTHING_CHANGED, reason, self._before)
        advice = f"write {spell(self._before)} into {self._target.where} yourself"
        try:
            self._look("going back", 0, self._asked, self._wish.gate_s, reason)
            fault = self._write_back() or self._wait_back()
        except KeyboardInterrupt:
            return Outcome(End.LEFT, f"{reason}; left as it is, interrupted while going back; {advice}", self._asked)
        if fault:
            return Outcome(End.LEFT, f"{reason}; could not go back: {fault}; {advice}", self._asked)
        return Outcome(End.ROLLED_BACK, reason, self._before)

    def _is_untouched(self) -> bool:
        """Whether no write came through: the first may have failed, or been interrupted before or after it took."""
        if not self._touched or self._asked != self._before:
            return not self._touched
        try:
            return self._target.read() == self._before
        except TargetError:
            return False

    def _write_back(self) -> str:
        """Empty when it is written; else why it could not be, however often tried."""
        fault = ""
        for _ in range(BACK_TRIES):
            try:
                self._write(self._before)
                return ""
            except ChangedByOther as error:
                return str(error)
            except TargetError as error:
                fault = str(error)
                self._clock.sleep(TICK_S)
        return fault

    def _wait_back(self) -> str:
        """Empty when requests meet the old traffic again; else what is known."""
        end = self._clock.now() + self._wish.gate_s
        state = self._state()
        while state.traffic is None or taking(state.traffic) != taking(self._before):
            if self._clock.now() >= end:
                return f"it is written, but not in force after {self._wish.gate_s:g} s: {state.reason or 'no reason'}"
            self._clock.sleep(TICK_S / 2)
            state = self._state()
        return ""

    def _state(self) -> InForce:
        try:
            return self._target.in_force()
        except TargetError as error:
            return InForce(None, str(error))

    def _read(self) -> None:
        try:
            reading = self._signals.read()
        except SignalsError as error:
            self._note = str(error)
            return
        self._note = "; ".join(reading.faults)
        self._window.add(reading)
        self._moment.open()
        self._moment.add(reading)
        by_version = dict(self._moment.counts())
        new = by_version.pop(self._wish.to, Counts())
        self._recent.append((sum(by_version.values(), Counts()).quantile(0.5), new.quantile(0.5)))

    def _look(self, phase: str, share: int, traffic: Traffic, left_s: float, note: str) -> None:
        old, new = self._sides()
        self._show.tick(View(phase, share, traffic, old, new, max(0.0, left_s), tuple(self._recent), note))
