"""The same documents on one machine and on engines: equal answers, bad rows, processes that are killed."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.engines.conftest import RunningEngine
from tests.integration.batch_runs import RESUMED, Batch
from tests.integration.engine_runs import run_on_one_machine
from tests.integration.test_engine_runs import without_ids, write_bad_rows

ROWS, WAIT_S = 1_000, 1500.0  # of a busy machine
pytestmark = pytest.mark.timeout(3600)


def batches(folder: Path, engine: RunningEngine, document: dict[str, Any]) -> tuple[Batch, Batch]:
    """A run on one machine and one on an engine, of the same document and data."""
    (folder / "one").mkdir()
    (folder / "more").mkdir()
    one = Batch(folder / "one", document)
    return one, Batch(
        folder / "more",
        one.document | {"write": {"parquet": str(folder / "more/out/forecasts")}},
        engine=engine.name,
        python=engine.python,
    )


def succeeds(batch: Batch, engine: RunningEngine) -> str:
    """Run a batch on an engine. Returns standard error."""
    status, out, err = batch.run(wait_s=WAIT_S, env=engine.variables)
    assert (status, out.startswith(f"{batch.output}: ")) == (0, True), err
    return err


def test_an_engine_gives_the_records_of_one_machine(engine: RunningEngine, tmp_path: Path) -> None:
    one, more = batches(tmp_path, engine, {"write": {"parquet": str(tmp_path / "one/out/forecasts"), "inputs": True}})
    more.document["write"]["inputs"] = True
    one.write_data(ROWS)
    run_on_one_machine(one)
    succeeds(more, engine)
    assert without_ids(more.records()).equals(without_ids(one.records()))
    assert sorted(file.name for file in more.output.iterdir()) == sorted(file.name for file in one.output.iterdir())
    manifests = [json.loads((batch.output / "_manifest.json").read_text()) for batch in (one, more)]
    assert [each["engine"] for each in manifests] == ["", engine.name]
    for name in ("model", "version", "contract", "rows", "bad_rows", "parts", "sources", "inputs"):
        assert manifests[0][name] == manifests[1][name]
    assert [path.name for path in more.output.parent.iterdir()] == ["forecasts"]


def test_bad_rows_are_kept_or_end_the_run(engine: RunningEngine, tmp_path: Path) -> None:
    one, more = batches(tmp_path, engine, {"onBadRows": "keep"})
    write_bad_rows(one, [7, 613])
    run_on_one_machine(one)
    succeeds(more, engine)
    errors = [pq.read_table(batch.output / "errors.parquet") for batch in (one, more)]
    assert errors[0].equals(errors[1])
    assert without_ids(more.records()).equals(without_ids(one.records()))
    shutil.rmtree(more.output)
    more.document["onBadRows"] = "refuse"
    status, _, err = more.run(wait_s=WAIT_S, env=engine.variables)
    assert (status, "the run has not ended" in err) == (1, False), err
    assert "sales.parquet: row 7: INVALID_ARGUMENT: input 'history': " in err or "row 613: INVALID_ARGUMENT" in err
    assert not more.output.exists()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_formats_without_types_are_read_with_their_bad_lines(
    engine: RunningEngine, tmp_path: Path, suffix: str
) -> None:
    columns = {"history": [f"h{n}" for n in range(28)], "price": [f"p{n}" for n in range(7)]}
    columns["promotion"] = [f"d{n}" for n in range(7)]
    one, more = batches(tmp_path, engine, {"columns": columns, "onBadRows": "keep"})
    table = one.write_data(ROWS)
    (one.folder / "data/sales.parquet").unlink()
    lines = []
    for row in table.to_pylist():
        values = {"number": row["number"]}
        for name, parts in columns.items():
            values |= dict(zip(parts, row[name], strict=True))
        lines.append(
            json.dumps(values) if suffix == "jsonl" else ",".join(json.dumps(each) for each in values.values())
        )
    lines[5] = lines[5].replace("5", "five", 1)
    header = [] if suffix == "jsonl" else [",".join(values)]
    (one.folder / f"data/sales.{suffix}").write_text("\n".join([*header, *lines]) + "\n")
    run_on_one_machine(one)
    succeeds(more, engine)
    assert without_ids(more.records()).equals(without_ids(one.records()))
    errors = [pq.read_table(batch.output / "errors.parquet") for batch in (one, more)]
    assert errors[0].equals(errors[1])
    assert errors[0].num_rows == 1


def start_until(batch: Batch, engine: RunningEngine, is_time: Callable[[], bool]) -> subprocess.Popen[str]:
    """A run that has not ended when it is time."""
    process, until = batch.start(env=engine.variables), time.monotonic() + WAIT_S
    while not is_time():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.001)
    return process


def of_many_parts(folder: Path, engine: RunningEngine) -> Batch:
    batch = Batch(folder, {"limits": {"partRows": 20}}, engine=engine.name, python=engine.python)
    batch.write_data(ROWS)
    return batch


def test_a_worker_that_is_killed_costs_no_row(engine: RunningEngine, tmp_path: Path) -> None:
    batch = of_many_parts(tmp_path, engine)
    process = start_until(batch, engine, lambda: batch.committed() >= 5)
    worker, *_ = engine.workers(process.pid)
    worker.send_signal(signal.SIGKILL)
    assert process.poll() is None
    _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_a_driver_that_is_killed_leaves_no_output_and_the_same_command_goes_on(
    engine: RunningEngine, tmp_path: Path
) -> None:
    batch = of_many_parts(tmp_path, engine)
    process = start_until(batch, engine, lambda: batch.committed() >= 5)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=WAIT_S)
    assert not batch.output.exists()
    err = succeeds(batch, engine)
    assert sum(map(int, RESUMED.findall(err))) >= 100
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_ctrl_c_ends_the_run_with_a_sentence(engine: RunningEngine, tmp_path: Path) -> None:
    batch = of_many_parts(tmp_path, engine)
    process = start_until(batch, engine, lambda: batch.committed() >= 5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err.endswith("stopped; the same command goes on\n")) == (130, True), err
    assert not batch.output.exists()
