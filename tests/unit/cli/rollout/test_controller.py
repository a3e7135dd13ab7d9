"""The rollout controller with simulated time, target and counters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from triptych_cli.rollout.analysis import Tolerances
from triptych_cli.rollout.controller import RolloutController, TimeSource
from triptych_cli.rollout.metrics.counts import REQUESTS, SECONDS, Reading, Sample
from triptych_cli.rollout.metrics.sources import MetricSourceError
from triptych_cli.rollout.reporters.lines import JsonReporter, LineReporter
from triptych_cli.rollout.spec import ExitStatus, RolloutResult, RolloutSpec
from triptych_cli.rollout.targets.target import ConcurrentChange, EffectiveTraffic, TargetError
from triptych_cli.rollout.traffic_split import TrafficSplit

BEFORE = {"3": 100}
SPEC = RolloutSpec(
    "sales_forecast_de", "4", (10, 50, 100), hold_s=10, max_hold_s=30, gate_timeout_s=20, tolerances=Tolerances()
)


@dataclass
class Simulation:
    """Target, counters and time: `rate` requests a second are split by the traffic in force."""

    rate: float = 100.0
    errors: Mapping[str, float] = field(default_factory=dict)  # share of requests, by version
    asked: TrafficSplit = field(default_factory=lambda: dict(BEFORE))
    written: list[TrafficSplit] = field(default_factory=list)
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
        for version, percent in self.effective_traffic().traffic.items() if not self.refusal else BEFORE.items():  # type: ignore[union-attr]
            requests = self.rate * seconds * percent / 100
            failed = requests * self.errors.get(version, 0.0)
            for code, count in (("OK", requests - failed), ("INTERNAL", failed)):
                self.counters[version, code] = self.counters.get((version, code), 0.0) + count
            answered = self.seconds.get((version, self.latency), 0.0)
            self.seconds[version, self.latency] = answered + requests - failed
        for moment in [moment for moment in self.at if moment <= self.time_s]:
            self.at.pop(moment)()

    # MetricSource
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

    # RolloutTarget
    def check_version(self, version: str) -> None:
        if version != "4":
            raise TargetError(f"no version {version}")

    def read(self) -> TrafficSplit:
        if self.read_error:
            raise self.read_error
        return self.asked

    def write(self, traffic: TrafficSplit) -> None:
        if self.write_error:
            raise self.write_error
        self.asked, self.written_s = dict(traffic), self.time_s
        self.written.append(dict(traffic))

    def effective_traffic(self) -> EffectiveTraffic:
        if self.refusal and self.asked != BEFORE:
            return EffectiveTraffic(BEFORE, self.refusal, refused=True)
        if self.written and self.time_s < self.written_s + self.load_s:
            return EffectiveTraffic(BEFORE, "it is being loaded")
        return EffectiveTraffic(self.asked)

    def close(self) -> None:
        """Nothing is open."""


class Counters:
    def __init__(self, simulation: Simulation) -> None:
        self.read = simulation.read_counters


def run_rollout(simulation: Simulation, spec: RolloutSpec = SPEC) -> tuple[RolloutResult, str]:
    out = io.StringIO()
    time_source = TimeSource(lambda: simulation.time_s, simulation.sleep)
    result = RolloutController(spec, simulation, Counters(simulation), LineReporter(out), time_source).run()
    return result, out.getvalue()


def raise_interrupt() -> None:
    raise KeyboardInterrupt


def test_a_good_version_takes_each_step_and_the_old_one_leaves_at_the_end() -> None:
    simulation = Simulation()
    result, lines = run_rollout(simulation)
    assert result == RolloutResult(ExitStatus.PROMOTED, "version 4 has 100 %", {"4": 100})
    assert simulation.written == [{"3": 90, "4": 10}, {"3": 50, "4": 50}, {"3": 0, "4": 100}, {"4": 100}]
    assert simulation.time_s == 30
    assert "10 %: good after 10 s" in lines
    assert lines.endswith("promoted: version 4 has 100 %\ntraffic: 4: 100 %\n")


def test_a_last_step_below_100_stays_there() -> None:
    simulation = Simulation()
    result, _ = run_rollout(simulation, RolloutSpec("m", "4", (10, 50), 10, 30, 20))
    assert (result.exit_status, result.reason) == (ExitStatus.PROMOTED, "version 4 stays at 50 %, the last step")
    assert simulation.asked == {"3": 50, "4": 50}


def test_a_version_that_fails_is_back_before_the_step_is_over() -> None:
    simulation = Simulation(errors={"4": 0.5})
    result, lines = run_rollout(simulation)
    assert result.exit_status is ExitStatus.ROLLED_BACK
    assert result.reason.startswith("at 10 %: 50.0% of")
    assert simulation.asked == BEFORE
    assert simulation.time_s < SPEC.hold_s
    assert "10 %: worse after" in lines


def test_a_version_that_fails_only_when_it_has_all_the_traffic_is_compared_with_the_old_of_before() -> None:
    simulation = Simulation()
    simulation.at[25.0] = lambda: setattr(simulation, "errors", {"4": 0.3})
    result, _ = run_rollout(simulation)
    assert (result.exit_status, simulation.asked) == (ExitStatus.ROLLED_BACK, BEFORE)
    assert result.reason.startswith("at 100 %")


def test_machines_that_are_slower_than_in_the_step_before_do_not_make_a_version_worse() -> None:
    simulation = Simulation()
    simulation.at[21.0] = lambda: setattr(simulation, "latency", "0.1")
    result, lines = run_rollout(simulation)
    assert result.exit_status is ExitStatus.PROMOTED
    assert "new: 1000 requests, 0 % failed, p50 50 ms" in lines


def test_a_load_that_takes_long_does_not_count_as_holding() -> None:
    simulation = Simulation(load_s=15)
    result, lines = run_rollout(simulation)
    assert result.exit_status is ExitStatus.PROMOTED
    assert simulation.time_s == pytest.approx(3 * (15 + 10), abs=1)
    assert "waiting until it is in force: it is being loaded" in lines


def test_a_version_that_cannot_be_loaded_is_back_with_the_reason() -> None:
    simulation = Simulation(refusal="triton: no such file model.onnx")
    result, _ = run_rollout(simulation)
    assert result.exit_status is ExitStatus.ROLLED_BACK
    assert result.reason == "version 4 does not get its share: triton: no such file model.onnx"
    assert simulation.asked == BEFORE


def test_a_share_that_does_not_come_into_force_in_time_is_taken_back() -> None:
    simulation = Simulation(load_s=1000)
    result, _ = run_rollout(simulation)
    assert "was not in force after 20 s: it is being loaded" in result.reason
    # Requests met the old traffic all the time, but nobody can say so.
    assert (result.exit_status, simulation.asked) == (ExitStatus.ROLLED_BACK, BEFORE)


def test_too_few_requests_extend_the_step_and_then_promote_nothing() -> None:
    simulation = Simulation(rate=10.0)
    result, lines = run_rollout(simulation)
    assert result.exit_status is ExitStatus.ROLLED_BACK
    wanted = "only 30 answers of version 4 to 30 requests, 270 to the old, in 30 s; 50 are wanted for an analysis"
    assert wanted in result.reason
    assert simulation.time_s == SPEC.max_hold_s
    assert "10 %: waiting for more requests" in lines


def test_when_everything_fails_on_both_sides_nothing_is_promoted() -> None:
    simulation = Simulation(errors={"3": 0.9, "4": 0.9})
    result, _ = run_rollout(simulation)
    assert (result.exit_status, simulation.asked) == (ExitStatus.ROLLED_BACK, BEFORE)
    assert "only 30 answers of version 4 to 300 requests" in result.reason


def test_a_good_version_takes_over_from_one_that_fails() -> None:
    result, _ = run_rollout(Simulation(errors={"3": 0.9}))
    assert result.exit_status is ExitStatus.PROMOTED


def test_metrics_that_are_gone_promote_nothing() -> None:
    simulation = Simulation()
    simulation.at[3.0] = lambda: setattr(simulation, "metrics_error", MetricSourceError("no metrics endpoint answers"))
    result, _ = run_rollout(simulation)
    assert (result.exit_status, simulation.asked) == (ExitStatus.ROLLED_BACK, BEFORE)
    assert "no metrics endpoint answers" in result.reason


def test_without_metrics_nothing_is_even_begun() -> None:
    simulation = Simulation(metrics_error=MetricSourceError("no metrics endpoint answers"))
    result, _ = run_rollout(simulation)
    assert (result.exit_status, simulation.written) == (ExitStatus.NOTHING_CHANGED, [])


def test_an_unknown_version_changes_nothing() -> None:
    simulation = Simulation()
    result, _ = run_rollout(simulation, RolloutSpec("m", "7", (10, 100), 10, 30, 20))
    assert (result.exit_status, result.reason, simulation.written) == (ExitStatus.NOTHING_CHANGED, "no version 7", [])


def test_an_interrupt_goes_back() -> None:
    simulation = Simulation(at={12.0: raise_interrupt})
    result, _ = run_rollout(simulation)
    assert (result.exit_status, result.reason, simulation.asked) == (ExitStatus.ROLLED_BACK, "interrupted", BEFORE)


def test_a_second_interrupt_leaves_it_and_says_what_to_do() -> None:
    simulation = Simulation()

    def interrupt_and_lock() -> None:
        simulation.write_error = TargetError("locked")
        raise KeyboardInterrupt

    simulation.at = {12.0: interrupt_and_lock, 13.0: raise_interrupt}
    result, _ = run_rollout(simulation)
    assert result.exit_status is ExitStatus.ABANDONED
    assert "interrupted while rolling back; write 3: 100 % into served/de.yaml yourself" in result.reason


def test_traffic_that_another_client_changed_is_left_alone() -> None:
    simulation = Simulation()
    simulation.at[5.0] = lambda: setattr(simulation, "asked", {"2": 100})
    result, _ = run_rollout(simulation)
    assert (result.exit_status, simulation.asked) == (ExitStatus.ABANDONED, {"2": 100})
    assert "was changed by someone else" in result.reason


def test_a_target_that_cannot_be_written_any_more_says_what_to_write_by_hand() -> None:
    simulation = Simulation(errors={"4": 0.5})
    simulation.at[1.0] = lambda: setattr(simulation, "write_error", TargetError("read-only file system"))
    result, _ = run_rollout(simulation)
    assert result.exit_status is ExitStatus.ABANDONED
    assert "could not roll back: read-only file system; write 3: 100 % into served/de.yaml yourself" in result.reason
    assert result.traffic == {"3": 90, "4": 10}


def test_a_target_that_is_briefly_unreachable_does_not_end_the_rollout() -> None:
    simulation = Simulation()
    simulation.at[2.0] = lambda: setattr(simulation, "read_error", TargetError("the API server does not answer"))
    simulation.at[6.0] = lambda: setattr(simulation, "read_error", None)
    result, _ = run_rollout(simulation)
    assert result.exit_status is ExitStatus.PROMOTED


def test_a_refused_first_write_changes_nothing() -> None:
    simulation = Simulation(write_error=ConcurrentChange("someone was faster"))
    result, _ = run_rollout(simulation)
    assert (result.exit_status, result.reason) == (ExitStatus.NOTHING_CHANGED, "someone was faster")


def test_a_target_that_can_never_be_written_is_unchanged() -> None:
    simulation = Simulation(write_error=TargetError("read-only file system"))
    result, _ = run_rollout(simulation)
    assert (result.exit_status, result.reason) == (ExitStatus.NOTHING_CHANGED, "read-only file system")


def test_json_has_a_line_for_each_step_and_one_for_the_end() -> None:
    out, simulation = io.StringIO(), Simulation(errors={"4": 0.004})
    RolloutController(
        SPEC,
        simulation,
        Counters(simulation),
        JsonReporter(out),
        TimeSource(lambda: simulation.time_s, simulation.sleep),
    ).run()
    *steps, end = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["step"], line["conclusion"]) for line in steps] == [(10, "good"), (50, "good"), (100, "good")]
    assert steps[0]["new"]["requests"] == 100
    assert end == {"outcome": "promoted", "exit": 0, "reason": "version 4 has 100 %", "traffic": {"4": 100}}
