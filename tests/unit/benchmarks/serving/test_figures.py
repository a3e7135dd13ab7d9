"""From what load generators leave behind to ratios with their spread."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from benchmarks.report import Report
from benchmarks.serving.bench import make, variables_of
from benchmarks.serving.figures import overview
from benchmarks.serving.figures.goals import of_runs
from benchmarks.serving.figures.statistics import Spread, cpu_medians, medians, ratios
from benchmarks.serving.measurement import cpu, ghz, load, lower_bound
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.open_loop import burst_intervals_us
from benchmarks.serving.slow_model import totals
from benchmarks.serving.systems.triptych import Triptych
from benchmarks.serving.workloads import MODELS
from local.errors import LocalError

RUN = Run("triptych", "W1", "64 callers", 0, 1000, 400.0, 10.0, 20.0, 40.0, 0, 2.5, {"preprocess": 0.2}, 0.1, 0.0)

SYSTEMS = (("triptych", 3.0), ("ensemble", 2.0))


def test_a_profile_gives_rate_and_percentiles_even_with_a_picture_in_it() -> None:
    request = b'{"timestamp":%d,"request_inputs":{"image":"\xff\xd8\xff"},"response_timestamps":[%d]}'
    profile = b",".join(request % (10**9 + at * 10**6, 10**9 + at * 10**6 + 2 * 10**6) for at in range(101))
    seen = load.read(profile, seconds=1.0, cpu_s=0.5)
    assert seen.requests == 101
    assert seen.rate == pytest.approx(101 / 0.102)
    assert seen.ms(99) == pytest.approx(2.0)


def test_a_profile_in_which_answers_are_missing_is_refused() -> None:
    with pytest.raises(LocalError, match="2 requests and 1 answers"):
        load.read(b'"timestamp":1,"response_timestamps":[2],"timestamp":3,"response_timestamps":[]', 1.0, 0.0)


def test_only_what_is_ok_within_the_deadline_is_good() -> None:
    details = [
        {"timestamp": "2026-11-21T20:00:01.000000Z", "latency": 500_000_000, "status": "OK"},
        {"timestamp": "2026-11-21T20:00:02.000000Z", "latency": 1_200_000_000, "status": "OK"},
        {"timestamp": "2026-11-21T20:00:02.500000Z", "latency": 1_000_000, "status": "ResourceExhausted"},
    ]
    result = ghz.read({"details": details}, cpu_s=0.1, deadline_s=1.0)
    assert result.good.tolist() == [True, False, False]
    assert result.rate == pytest.approx(1 / 2.0)  # first sent at 0.5 s, last answered at 2.5 s
    assert result.counts == {"OK": 2, "ResourceExhausted": 1}
    assert result.ms(50, ~result.good) == pytest.approx(600.5)


def test_ratios_are_made_within_a_round() -> None:
    ours = [replace(RUN, round=at, rate=rate) for at, rate in enumerate((200.0, 400.0, 900.0))]
    theirs = [replace(RUN, system="ensemble", round=at, rate=rate) for at, rate in enumerate((100.0, 400.0, 300.0))]
    found = ratios([*ours, *theirs], "triptych", "ensemble", lambda run: run.rate)
    assert found == Spread(2.0, 1.0, 3.0, 3)
    assert found.text == "2.00 (1.00..3.00)"


def test_a_round_that_the_other_missed_and_a_figure_that_is_none_make_no_ratio() -> None:
    other = replace(RUN, system="bare", round=1, p50_ms=math.nan)
    assert ratios([RUN, other], "triptych", "bare", lambda run: run.rate) is None
    assert ratios([RUN, replace(other, round=0)], "triptych", "bare", lambda run: run.p50_ms) is None


def test_medians_count_a_process_that_was_not_there_as_nothing() -> None:
    runs = [RUN, replace(RUN, rate=500.0, cpu={"preprocess": 0.4, "other": 0.3}), replace(RUN, rate=600.0)]
    assert medians(runs)["rate"] == 500.0
    assert cpu_medians(runs) == {"other": 0.0, "preprocess": 0.2}


def test_the_floor_takes_the_time_of_both() -> None:
    bare = replace(RUN, system=lower_bound.LOOPS, point="", rate=600.0, cpu={"loop": 3.0})
    triton = replace(RUN, system="triton", rate=3000.0, cpu={"predictor": 0.2})
    (found,) = lower_bound.combined([bare], [triton, replace(triton, round=1)])
    assert found.rate == pytest.approx(500.0)
    assert found.cpu_total == pytest.approx(3.2)


def test_bursts_have_the_rate_that_was_asked_for() -> None:
    intervals = burst_intervals_us(800.0, 32)
    assert len(intervals) == 32
    assert sum(intervals) / 1e6 == pytest.approx(32 / 800.0)
    assert max(intervals[:-1]) == 1


def test_a_model_process_counts_by_what_it_does() -> None:
    stub = "/cache/backends/python/triton_python_backend_stub"
    assert cpu.kind_of("predictor", [stub, "/models/sales_before/1/model.py"]) == "predictor: before"
    assert cpu.kind_of("predictor", [stub, "/models/sales_forecast_de/1/model.onnx"]) == "predictor: model"
    assert cpu.kind_of("transformer", ["/usr/bin/python", "-c", "x"]) == "transformer"


def test_cpu_of_a_process_that_is_new_counts_from_its_start() -> None:
    assert cpu.difference({"a": 1.0, "gone": 5.0}, {"a": 1.5, "new": 0.25}) == {"a": 0.5, "new": 0.25}


def test_busy_time_is_that_of_executions_and_not_of_requests() -> None:
    answer = pb.ModelStatisticsResponse()
    batches = answer.model_stats.add().batch_stats
    for size, count in ((1, 2), (30, 10)):
        batch = batches.add(batch_size=size)
        batch.compute_infer.count, batch.compute_infer.ns = count, count * 20_000_000
    nanoseconds, executions, rows = totals(answer)
    assert (nanoseconds, executions, rows) == (240_000_000, 12, 302)


def test_goals_are_checked_by_the_median_and_only_where_there_are_figures() -> None:
    rates = ((900.0, 400.0), (700.0, 400.0), (1000.0, 400.0))
    ours = [replace(RUN, round=at, rate=rate) for at, (rate, _) in enumerate(rates)]
    theirs = [replace(RUN, system="ensemble", round=at, rate=rate) for at, (_, rate) in enumerate(rates)]
    found = {goal.text: goal for goal in of_runs([*ours, *theirs])}
    assert set(found) == {
        "W1, 64 callers, requests/s: triptych to ensemble",
        "W1, 64 callers, CPU per request: triptych to ensemble",
    }
    assert found["W1, 64 callers, requests/s: triptych to ensemble"].reached  # 2.25, 1.75 and 2.5
    assert not found["W1, 64 callers, CPU per request: triptych to ensemble"].reached  # 1.0


def test_grouped_has_goals_of_its_own() -> None:
    alone = replace(RUN, point="1 caller", p50_ms=2.0)
    grouped = replace(alone, system="triptych-grouped", p50_ms=1.2)
    found = list(of_runs([alone, grouped, replace(alone, system="ensemble", p50_ms=1.0)]))
    limits = {goal.text: (goal.limit, goal.found.median) for goal in found if "p50" in goal.text}
    assert limits == {
        "W1, 1 caller, p50: triptych to ensemble": (1.4, 2.0),
        "W1, 1 caller, p50: triptych-grouped to ensemble": (1.1, 1.2),
    }


def test_the_overview_has_a_column_for_ordinary_load(tmp_path: Path) -> None:
    runs = [replace(RUN, workload="W5", point="Poisson, 30 %", system=name, p50_ms=p50) for name, p50 in SYSTEMS]
    report = Report("serving", "Serving", {}, tmp_path)
    overview.add_to(report, [*runs, RUN])
    report.write()
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "| system | p50 at 30 % load | requests/s, 64 callers |" in lines
    assert "| triptych | 3.00 ms (1.50) | 400 |" in lines
    assert "| ensemble | 2.00 ms |  |" in lines


def test_a_setting_is_that_of_both_stages_or_of_the_one_that_it_names() -> None:
    assert variables_of(["server=grpcio"]) == {"PREPROCESS_SERVER": "grpcio", "POSTPROCESS_SERVER": "grpcio"}
    assert variables_of(["preprocess_groups=3", "controller_poll_s=9"]) == {
        "PREPROCESS_GROUPS": "3",
        "CONTROLLER_POLL_S": "9",
    }
    assert make("triptych:server=grpcio", MODELS).name == "triptych:server=grpcio"


def test_grouped_is_not_measured_with_a_postprocess_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Triptych, "start", lambda *_: None)
    monkeypatch.setattr(Triptych, "pids", lambda _: {"preprocess": 1, "postprocess": 2})
    with pytest.raises(LocalError, match="without a process postprocess"):
        make("triptych-grouped", MODELS).start(tmp_path, [])


@pytest.mark.parametrize("name", ["tryptich", "ensemble:server=grpcio", "triptych:server"])
def test_a_system_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(LocalError):
        make(name, MODELS)


def test_a_spread_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        Spread.of(np.array([]).tolist())
