"""The course of a rollout with a clock and counters of the test's own: what cannot be waited for, or must fail."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from triptych_cli.rollout.analysis import Limits
from triptych_cli.rollout.controller import Clock, Course
from triptych_cli.rollout.counts import REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.lines import JsonLines, Lines
from triptych_cli.rollout.metric_sources import SignalsError
from triptych_cli.rollout.plan import Traffic
from triptych_cli.rollout.spec import End, Outcome, Wish
from triptych_cli.rollout.target import ChangedByOther, InForce, TargetError

BEFORE = {"3": 100}
WISH = Wish("sales_forecast_de", "4", (10, 50, 100), hold_s=10, max_hold_s=30, gate_s=20, limits=Limits())


@dataclass
class World:
    """Target, counters and time in one: requests come at `rate` a second and go by the traffic in force."""

    rate: float = 100.0
    errors: Mapping[str, float] = field(default_factory=dict)  # share of requests, by version
    asked: Traffic = field(default_factory=lambda: dict(BEFORE))
    written: list[Traffic] = field(default_factory=list)
    time_s: float = 0.0
    latency: str = "0.01"  # upper limit of the bucket that answers fall into
    counters: dict[tuple[str, str], float] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    at: dict[float, Callable[[], None]] = field(default_factory=dict)  # what happens when
    load_s: float = 0.0
    refusal: str = ""
    write_error: Exception | None = None
    read_error: Exception | None = None
    metrics_error: Exception | None = None
    where: str = "served/de.yaml"

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds
        for version, percent in self.in_force().traffic.items() if not self.refusal else BEFORE.items():  # type: ignore[union-attr]
            requests = self.rate * seconds * percent / 100
            failed = requests * self.errors.get(version, 0.0)
            for code, count in (("OK", requests - failed), ("INTERNAL", failed)):
                self.counters[version, code] = self.counters.get((version, code), 0.0) + count
            answered = self.seconds.get((version, self.latency), 0.0)
            self.seconds[version, self.latency] = answered + requests - failed
        for moment in [moment for moment in self.at if moment <= self.time_s]:
            self.at.pop(moment)()

    # Signals
    def read_counters(self) -> Reading:
        if self.metrics_error:
            raise self.metrics_error
        samples = []
        for (version, code), count in self.counters.items():
            samples.append(Sample("a", REQUESTS, (("code", code), ("version", version)), count))
        for version in {version for version, _ in self.seconds}:
            fast, slow = (self.seconds.get((version, limit), 0.0) for limit in ("0.01", "0.1"))
            for limit, count in (("0.01", fast), ("0.1", fast + slow)):
                samples.append(Sample("a", SECONDS, (("le", limit), ("version", version)), count))
        return Reading(samples, frozenset({"a"}))

    # Target
    def check(self, version: str) -> None:
        if version != "4":
            raise TargetError(f"no version {version}")

    def read(self) -> Traffic:
        if self.read_error:
            raise self.read_error
        return self.asked

    def write(self, traffic: Traffic) -> None:
        if self.write_error:
            raise self.write_error
        self.asked, self.written_s = dict(traffic), self.time_s
        self.written.append(dict(traffic))

    def in_force(self) -> InForce:
        if self.refusal and self.asked != BEFORE:
            return InForce(BEFORE, self.refusal, refused=True)
        if self.written and self.time_s < self.written_s + self.load_s:
            return InForce(BEFORE, "it is being loaded")
        return InForce(self.asked)

    def close(self) -> None:
        """Nothing is open."""


class Counters:
    def __init__(self, world: World) -> None:
        self.read = world.read_counters


def course(world: World, wish: Wish = WISH) -> tuple[Outcome, str]:
    out = io.StringIO()
    clock = Clock(lambda: world.time_s, world.sleep)
    outcome = Course(wish, world, Counters(world), Lines(out), clock).run()
    return outcome, out.getvalue()


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_a_good_version_takes_each_step_and_the_old_one_leaves_at_the_end() -> None:
    world = World()
    outcome, lines = course(world)
    assert outcome == Outcome(End.PROMOTED, "version 4 has 100 %", {"4": 100})
    assert world.written == [{"3": 90, "4": 10}, {"3": 50, "4": 50}, {"3": 0, "4": 100}, {"4": 100}]
    assert world.time_s == 30
    assert "10 %: good after 10 s" in lines
    assert lines.endswith("promoted: version 4 has 100 %\ntraffic: 4: 100 %\n")


def test_a_last_step_below_100_stays_there() -> None:
    world = World()
    outcome, _ = course(world, Wish("m", "4", (10, 50), 10, 30, 20))
    assert (outcome.end, outcome.reason) == (End.PROMOTED, "version 4 stays at 50 %, the last step")
    assert world.asked == {"3": 50, "4": 50}


def test_a_version_that_fails_is_back_before_the_step_is_over() -> None:
    world = World(errors={"4": 0.5})
    outcome, lines = course(world)
    assert outcome.end is End.ROLLED_BACK
    assert outcome.reason.startswith("at 10 %: 50.0% of")
    assert world.asked == BEFORE
    assert world.time_s < WISH.hold_s
    assert "10 %: worse after" in lines


def test_a_version_that_fails_only_when_it_has_all_the_traffic_is_compared_with_the_old_of_before() -> None:
    world = World()
    world.at[25.0] = lambda: setattr(world, "errors", {"4": 0.3})
    outcome, _ = course(world)
    assert (outcome.end, world.asked) == (End.ROLLED_BACK, BEFORE)
    assert outcome.reason.startswith("at 100 %")


def test_machines_that_are_slower_than_in_the_step_before_do_not_make_a_version_worse() -> None:
    world = World()
    world.at[21.0] = lambda: setattr(world, "latency", "0.1")
    outcome, lines = course(world)
    assert outcome.end is End.PROMOTED
    assert "new: 1000 requests, 0 % failed, p50 50 ms" in lines


def test_a_load_that_takes_long_does_not_count_as_holding() -> None:
    world = World(load_s=15)
    outcome, lines = course(world)
    assert outcome.end is End.PROMOTED
    assert world.time_s == pytest.approx(3 * (15 + 10), abs=1)
    assert "waiting until it is in force: it is being loaded" in lines


def test_a_version_that_cannot_be_loaded_is_back_with_the_reason() -> None:
    world = World(refusal="triton: no such file model.onnx")
    outcome, _ = course(world)
    assert outcome.end is End.ROLLED_BACK
    assert outcome.reason == "version 4 does not get its share: triton: no such file model.onnx"
    assert world.asked == BEFORE


def test_a_share_that_does_not_come_into_force_in_time_is_taken_back() -> None:
    world = World(load_s=1000)
    outcome, _ = course(world)
    assert "was not in force after 20 s: it is being loaded" in outcome.reason
    # Requests met the old traffic all the time, but nobody can say so.
    assert (outcome.end, world.asked) == (End.ROLLED_BACK, BEFORE)


def test_too_few_requests_extend_the_step_and_then_promote_nothing() -> None:
    world = World(rate=10.0)
    outcome, lines = course(world)
    assert outcome.end is End.ROLLED_BACK
    wanted = "only 30 answers of version 4 to 30 requests, 270 to the old, in 30 s; 50 are wanted to judge by"
    assert wanted in outcome.reason
    assert world.time_s == WISH.max_hold_s
    assert "10 %: waiting for more requests" in lines


def test_when_everything_fails_on_both_sides_nothing_is_promoted() -> None:
    world = World(errors={"3": 0.9, "4": 0.9})
    outcome, _ = course(world)
    assert (outcome.end, world.asked) == (End.ROLLED_BACK, BEFORE)
    assert "only 30 answers of version 4 to 300 requests" in outcome.reason


def test_a_good_version_takes_over_from_one_that_fails() -> None:
    outcome, _ = course(World(errors={"3": 0.9}))
    assert outcome.end is End.PROMOTED


def test_metrics_that_are_gone_promote_nothing() -> None:
    world = World()
    world.at[3.0] = lambda: setattr(world, "metrics_error", SignalsError("no metrics endpoint answers"))
    outcome, _ = course(world)
    assert (outcome.end, world.asked) == (End.ROLLED_BACK, BEFORE)
    assert "no metrics endpoint answers" in outcome.reason


def test_without_metrics_nothing_is_even_begun() -> None:
    world = World(metrics_error=SignalsError("no metrics endpoint answers"))
    outcome, _ = course(world)
    assert (outcome.end, world.written) == (End.NOTHING_CHANGED, [])


def test_an_unknown_version_changes_nothing() -> None:
    world = World()
    outcome, _ = course(world, Wish("m", "7", (10, 100), 10, 30, 20))
    assert (outcome.end, outcome.reason, world.written) == (End.NOTHING_CHANGED, "no version 7", [])


def test_an_interrupt_goes_back() -> None:
    world = World(at={12.0: raise_interrupt})
    outcome, _ = course(world)
    assert (outcome.end, outcome.reason, world.asked) == (End.ROLLED_BACK, "interrupted", BEFORE)


def test_a_second_interrupt_leaves_it_and_says_what_to_do() -> None:
    world = World()

    def interrupt_and_lock() -> None:
        world.write_error = TargetError("locked")
        raise KeyboardInterrupt

    world.at = {12.0: interrupt_and_lock, 13.0: raise_interrupt}
    outcome, _ = course(world)
    assert outcome.end is End.LEFT
    assert "interrupted while going back; write 3: 100 % into served/de.yaml yourself" in outcome.reason


def test_traffic_that_someone_else_changed_is_left_to_them() -> None:
    world = World()
    world.at[5.0] = lambda: setattr(world, "asked", {"2": 100})
    outcome, _ = course(world)
    assert (outcome.end, world.asked) == (End.LEFT, {"2": 100})
    assert "was changed by someone else" in outcome.reason


def test_a_target_that_cannot_be_written_any_more_says_what_to_write_by_hand() -> None:
    world = World(errors={"4": 0.5})
    world.at[1.0] = lambda: setattr(world, "write_error", TargetError("read-only file system"))
    outcome, _ = course(world)
    assert outcome.end is End.LEFT
    assert "could not go back: read-only file system; write 3: 100 % into served/de.yaml yourself" in outcome.reason
    assert outcome.traffic == {"3": 90, "4": 10}


def test_a_target_that_is_away_for_a_moment_does_not_end_the_rollout() -> None:
    world = World()
    world.at[2.0] = lambda: setattr(world, "read_error", TargetError("the API server does not answer"))
    world.at[6.0] = lambda: setattr(world, "read_error", None)
    outcome, _ = course(world)
    assert outcome.end is End.PROMOTED


def test_a_first_write_that_is_refused_goes_nowhere() -> None:
    world = World(write_error=ChangedByOther("someone was faster"))
    outcome, _ = course(world)
    assert (outcome.end, outcome.reason) == (End.NOTHING_CHANGED, "someone was faster")


def test_a_target_that_can_never_be_written_is_unchanged() -> None:
    world = World(write_error=TargetError("read-only file system"))
    outcome, _ = course(world)
    assert (outcome.end, outcome.reason) == (End.NOTHING_CHANGED, "read-only file system")


def test_json_has_a_line_for_each_step_and_one_for_the_end() -> None:
    out, world = io.StringIO(), World(errors={"4": 0.004})
    Course(WISH, world, Counters(world), JsonLines(out), Clock(lambda: world.time_s, world.sleep)).run()
    *steps, end = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["step"], line["verdict"]) for line in steps] == [(10, "good"), (50, "good"), (100, "good")]
    assert steps[0]["new"]["requests"] == 100
    assert end == {"outcome": "promoted", "exit": 0, "reason": "version 4 has 100 %", "traffic": {"4": 100}}
