"""`triptych plan`: its queues against known values, plans that meet their targets, and the installed costs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from local.environments import ROOT
from triptych_cli.plan import costs, queueing
from triptych_cli.plan.command import conclusion, costs_sentence, duration_s, main
from triptych_cli.plan.costs import Costs, CostsError, ServiceTime, StageCosts
from triptych_cli.plan.replicas import (
    LoadTarget,
    ReplicaPlan,
    alternatives,
    grouped,
    in_process,
    one_process,
    separate,
)

SEPARATE = StageCosts(
    {
        "preprocess": ServiceTime.constant(0.002),
        "predictor": ServiceTime.constant(0.001),
        "postprocess": ServiceTime.constant(0.001),
    },
    together=ServiceTime.constant(0.004),
    rpc_overhead_s=0.001,
)
SALES = Costs(SEPARATE, one_process=ServiceTime.constant(0.003))
WITHIN = StageCosts(
    {"preprocess": ServiceTime.constant(0.0022), "predictor": ServiceTime.constant(0.001)},
    ServiceTime.constant(0.0032),
    0.0005,
)
MEASURED = replace(SALES, in_process=WITHIN)


def test_one_server_is_m_m_1() -> None:
    assert queueing.waiting_share(50, 0.01, 1) == pytest.approx(0.5)
    assert queueing.share_above(0.02, 50, 0.01, 1) == pytest.approx(math.exp(-1))
    assert queueing.percentile_s(0.99, 50, 0.01, 1) == pytest.approx(0.02 * math.log(100))


def test_erlang_c_of_several_servers_is_as_tabulated() -> None:
    assert queueing.waiting_share(2, 1.0, 3) == pytest.approx(4 / 9)  # offered 2 Erlang
    assert queueing.waiting_share(8, 1.0, 10) == pytest.approx(0.4092, abs=1e-4)


def test_servers_that_cannot_keep_up_let_everybody_wait_for_ever() -> None:
    assert queueing.waiting_share(100, 0.01, 1) == 1.0
    assert queueing.percentile_s(0.99, 200, 0.01, 2) == math.inf


def test_the_case_that_the_formula_divides_by_zero_for_is_the_limit_of_near_ones() -> None:
    exact = queueing.share_above(0.03, 100, 0.01, 2)  # c - 1 = offered
    near = queueing.share_above(0.03, 100.001, 0.01, 2)
    assert exact == pytest.approx(near, rel=1e-3)


def test_no_replica_is_busier_than_the_cap_and_the_target_is_kept() -> None:
    for rate in (10, 200, 1500, 20_000):
        for plan in alternatives(SALES, LoadTarget(rate, 0.030)):
            assert plan.meets_target
            assert max(plan.utilisation.values()) <= 0.7 + 1e-9


def test_a_tighter_p99_takes_more_replicas_where_they_help() -> None:
    relaxed, tight = (separate(SALES, LoadTarget(900, p99_s)) for p99_s in (0.100, 0.0205))
    assert tight.meets_target
    assert tight.cores > relaxed.cores


def test_a_target_below_what_the_work_itself_takes_is_out_of_reach() -> None:
    plans = alternatives(SALES, LoadTarget(100, 0.002))
    assert not any(plan.meets_target for plan in plans)
    assert "No plan keeps p99 within 2 ms" in conclusion(plans)


def test_small_loads_are_cheaper_grouped_and_a_gpu_makes_separate_cheaper() -> None:
    assert alternatives(SALES, LoadTarget(50, 0.050))[0].name != "separate"
    with_gpu = LoadTarget(400, 0.050, gpu_s=0.0002)
    assert separate(SALES, with_gpu).gpus == 1
    assert grouped(SALES, with_gpu).gpus > 1
    assert alternatives(SALES, with_gpu)[0].name == "separate"
    assert one_process(SALES, with_gpu) is None


def test_without_scaling_of_its_own_postprocess_is_cheaper_in_process() -> None:
    target = LoadTarget(400, 0.050)
    within = in_process(MEASURED, target)
    assert within is not None
    assert set(within.replicas) == {"preprocess", "predictor"}
    assert within.price < separate(MEASURED, target).price
    assert within.p99_s < separate(MEASURED, target).p99_s
    assert in_process(MEASURED, LoadTarget(400, 0.050, gpu_s=0.0002)).gpus == 1  # type: ignore[union-attr]


def test_a_group_costs_what_was_measured_of_it_and_else_the_three_stages() -> None:
    target = LoadTarget(400, 0.050)
    assert (grouped(MEASURED, target).replicas, grouped(SALES, target).replicas) == ({"pod": 2}, {"pod": 3})
    assert in_process(SALES, target) is None
    assert "in process was not measured" in costs_sentence(SALES, "sales")
    assert "in process was not measured" not in costs_sentence(MEASURED, "sales")


def test_memory_and_gpus_have_their_price() -> None:
    plan = separate(SALES, LoadTarget(400, 0.050, gpu_s=0.0002, gpu_price=10, models_gib=2.0, gib_price=0.5))
    assert plan.price == plan.cores + 10 + 1


def test_the_first_plan_is_the_cheapest_that_keeps_the_target() -> None:
    plans: list[ReplicaPlan] = alternatives(SALES, LoadTarget(500, 0.050))
    assert [plan.price for plan in plans] == sorted(plan.price for plan in plans)


def test_a_cost_lies_on_the_line_between_measured_rates() -> None:
    service = ServiceTime(((100.0, 0.004), (500.0, 0.002)))
    assert service.at(10) == 0.004
    assert service.at(300) == pytest.approx(0.003)
    assert service.at(9000) == 0.002


def run(system: str, point: str, rate: float, p50_ms: float, **cpu: float) -> dict[str, object]:
    return {
        **{"system": system, "point": point, "rate": rate, "p50_ms": p50_ms},
        "cpu": {name.replace("_", ": "): value for name, value in cpu.items()},
    }


def test_costs_are_read_by_stage_with_its_children(tmp_path: Path) -> None:
    runs = [
        run("triptych", "1 caller", 200, 4.0, preprocess=1.5, predictor=0.5, predictor_model=0.5, postprocess=1.0),
        run("triptych", "64 callers", 2000, 30.0, preprocess=0.5, predictor=0.1, predictor_model=0.1, postprocess=0.1),
        run("grouped", "64 callers", 2500, 20.0, grouped=0.4),
        run("triptych-grouped", "1 caller", 300, 2.5, preprocess=1.2, predictor=0.4, predictor_model=0.4),
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"results": {"W1": runs}}))
    found = costs.read(file, "sales")
    assert [found.separate.stages["predictor"].at(rate) for rate in (200, 2000)] == pytest.approx([0.001, 0.0002])
    assert found.separate.together.at(2000) == pytest.approx(0.0008)
    assert found.separate.rpc_overhead_s == pytest.approx(0.0005)
    assert found.in_process is not None
    assert found.in_process.together.at(300) == pytest.approx(0.002)
    assert found.in_process.rpc_overhead_s == pytest.approx(0.0005)
    assert found.one_process is not None
    assert found.one_process.at(1) == pytest.approx(0.0004)


def test_results_without_the_workload_say_what_to_run(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"results": {}}))
    with pytest.raises(CostsError, match="python -m benchmarks serving"):
        costs.read(file, "digits")
    with pytest.raises(CostsError, match="no run of triptych"):
        costs.costs_of([run("triton", "1 caller", 1, 1.0)])


@pytest.mark.parametrize(("text", "wanted"), [("50ms", 0.05), ("0.05s", 0.05), ("0.05", 0.05), ("200us", 0.0002)])
def test_times_are_read_with_their_unit(text: str, wanted: float) -> None:
    assert duration_s(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "fast", "-1ms", "0ms", "5 min"])
def test_a_time_without_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="want a time"):
        duration_s(text)


def test_the_costs_of_the_package_are_those_of_the_committed_benchmark() -> None:
    """`make costs` writes them; every workload can be planned without a benchmark."""
    results = ROOT / "benchmarks/results/serving/results.json"
    for workload in costs.WORKLOADS:
        assert costs.as_json(costs.read(costs.FILE, workload)) == costs.as_json(costs.read(results, workload))


def test_the_command_prints_a_table_with_the_cheapest_plan_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests", "500", "--p99", "50ms"]) == 0
    shown = capsys.readouterr().out
    assert "### 500 requests/s of sales, p99 within 50 ms" in shown
    assert "| 1.00 " in shown


def test_a_target_that_no_plan_meets_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--p99", "10us"]) == 1
    assert "No plan keeps p99 within 0.01 ms" in capsys.readouterr().out


def test_a_file_without_costs_is_a_sentence_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--costs", str(tmp_path / "none.json")]) == 1
    assert "no measured costs of 'sales'" in capsys.readouterr().err
