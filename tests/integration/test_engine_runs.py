"""Runs on an engine, but for the engine: the plan, the parts, kills of the driver, the output."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.batch.engines.engine import AnsweredPart, PartFailed, PlannedPart
from jobs.batch.errors import BatchError, Interrupted
from local.environments import ROOT
from local.stack import MODEL_REPOSITORY
from tests.integration.batch_runs import Batch
from tests.integration.engine_runs import LoopEngine, run, run_on_one_machine
from triptych_cli.batch.run import main

ROWS = 1000
OF_A_RUN = ("triptych_id", "triptych_time")


def batch_of(folder: Path, document: dict[str, Any] | None = None) -> Batch:
    folder.mkdir(exist_ok=True)
    return Batch(folder, document or {}, engine=LoopEngine.name)


def run_of(batch: Batch, engine: LoopEngine | None = None, **options: bool) -> Any:
    return run(batch, engine or LoopEngine(), **options)


def without_ids(table: Any) -> Any:
    return table.drop_columns(list(OF_A_RUN))


def write_bad_rows(batch: Batch, rows: list[int]) -> None:
    table = batch.write_data(ROWS)
    history = np.array(table["history"].to_pylist(), np.float32)
    history[rows] = -1
    column = pa.FixedSizeListArray.from_arrays(pa.array(history.reshape(-1)), 28)
    file = batch.folder / "data/sales.parquet"
    pq.write_table(table.set_column(table.column_names.index("history"), "history", column), file)


def test_an_engine_gives_the_files_of_a_run_on_one_machine(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    one = Batch(tmp_path / "one", {"onBadRows": "keep"})
    write_bad_rows(one, [7, 613])
    document = one.document | {"write": {"parquet": str(tmp_path / "more/out/forecasts")}}
    more = batch_of(tmp_path / "more", document)
    run_on_one_machine(one)
    manifest = run_of(more)
    assert (manifest.rows, manifest.bad_rows, manifest.parts, manifest.engine) == (998, 2, 5, "loop")
    assert without_ids(more.records()).equals(without_ids(one.records()))
    names = sorted(file.name for file in one.output.iterdir())
    assert sorted(file.name for file in more.output.iterdir()) == names
    errors = [pq.read_table(batch.output / "errors.parquet") for batch in (one, more)]
    assert errors[0].equals(errors[1])
    assert [path.name for path in more.output.parent.iterdir()] == ["forecasts"]


def test_paths_begin_in_the_folder_of_the_driver_wherever_a_worker_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of(tmp_path, {"home": {"repository": "model-repository"}, "read": {"uri": "data"}})
    batch.write_data(300)
    (tmp_path / "model-repository").symlink_to(ROOT / "model-repository")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    run_of(batch, LoopEngine(before=lambda part: monkeypatch.chdir(tmp_path / "elsewhere")))
    assert set(batch.records()["triptych_file"].to_pylist()) == {"data/sales.parquet"}


def test_a_bad_row_ends_the_run_with_its_file_and_nothing_is_left(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    write_bad_rows(batch, [613])
    with pytest.raises(BatchError, match=r"sales\.parquet: row 613: INVALID_ARGUMENT: input 'history': ") as caught:
        run_of(batch)
    assert not isinstance(caught.value, Interrupted)
    assert not batch.output.exists()
    batch.write_data(ROWS)
    engine = LoopEngine()
    assert run_of(batch, engine).rows == ROWS
    assert len(engine.asked) == 5  # the run began anew


def test_a_part_that_is_answered_twice_is_in_the_output_once(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(ROWS)
    assert run_of(batch, LoopEngine(attempts=2)).rows == ROWS
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_a_driver_that_is_killed_leaves_no_output_and_the_same_command_goes_on(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(5 * ROWS)
    command = [sys.executable, "-m", "tests.integration.engine_runs", str(batch.write_document())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "3\n":
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not batch.output.exists()
    before = batch.committed()
    assert before >= 3
    engine = LoopEngine()
    assert run_of(batch, engine).rows == 5 * ROWS
    assert len(engine.asked) == 25 - before
    assert batch.records()["number"].to_pylist() == list(range(5 * ROWS))


class Stop(Exception):
    """The test ends a run."""


def at(number: int, then: Callable[[], object]) -> Callable[[PlannedPart], None]:
    """Call `then` before a part."""

    def before(part: PlannedPart) -> None:
        if part.number == number:
            then()

    return before


def stop() -> None:
    raise Stop


def test_files_of_an_earlier_run_of_other_data_are_no_part_of_the_output(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(ROWS)
    with pytest.raises(Stop):
        run_of(batch, LoopEngine(before=at(1, stop)))
    (earlier,) = batch.run_folder.glob("parts-*")
    assert batch.committed() == 4
    kept = {file.name: file.read_bytes() for file in earlier.iterdir()}
    batch.write_data(ROWS + 100)

    def late() -> None:  # a worker of the earlier run that nobody has stopped
        earlier.mkdir()
        for name, content in kept.items():
            (earlier / name).write_bytes(content)

    engine = LoopEngine(before=at(6, late))
    assert run_of(batch, engine).rows == ROWS + 100
    assert len(engine.asked) == 6
    assert batch.records()["number"].to_pylist() == list(range(ROWS + 100))


def test_a_run_of_another_document_is_not_mixed_with_one_that_has_begun(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(ROWS)
    with pytest.raises(Stop):
        run_of(batch, LoopEngine(before=at(1, stop)))
    batch.document["keep"] = ["number", "shop"]
    with pytest.raises(BatchError, match="--restart drops it and begins anew"):
        run_of(batch)
    run_of(batch, restart=True)
    assert "shop" in batch.records().column_names


def test_columns_that_do_not_fit_are_refused_before_the_engine_is_called(tmp_path: Path) -> None:
    batch = batch_of(tmp_path, {"columns": {"history": "units"}})
    batch.write_data(10)
    engine = LoopEngine()
    with pytest.raises(BatchError, match=r"input 'history' \(column 'units'\): want FP32\[n,28\]"):
        run_of(batch, engine)
    assert engine.asked == []
    assert list(batch.output.parent.iterdir()) == []


@pytest.mark.parametrize(("rows", "version"), [(400, 1), (600, 2)])
def test_a_run_keeps_its_version_until_its_files_change(tmp_path: Path, rows: int, version: int) -> None:
    model = tmp_path / "models/sales_forecast_de"
    shutil.copytree(MODEL_REPOSITORY / model.name, model)
    batch = batch_of(tmp_path, {"home": {"repository": str(model.parent)}})
    batch.write_data(400)
    with pytest.raises(Stop):
        run_of(batch, LoopEngine(before=at(1, stop)))
    shutil.copytree(model / "1", model / "2")  # the newest, which a document without a version asks
    if rows != 400:
        batch.write_data(rows)
    manifest = run_of(batch)
    assert (manifest.version, manifest.rows) == (version, rows)
    assert set(batch.records()["triptych_version"].to_pylist()) == {version}


def test_an_output_that_exists_is_only_replaced_by_order(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(400)
    run_of(batch)
    with pytest.raises(BatchError, match="exists; --replace puts the new output in its place"):
        run_of(batch)
    batch.write_data(600)
    assert run_of(batch, replace=True).rows == 600
    assert batch.records()["number"].to_pylist() == list(range(600))
    assert [path.name for path in batch.output.parent.iterdir()] == ["forecasts"]


def test_a_worker_with_another_contract_of_the_version_is_refused(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    shutil.copytree(MODEL_REPOSITORY / "sales_forecast_de", repository / "sales_forecast_de")
    contract = repository / "sales_forecast_de/1/contract.yaml"
    batch = batch_of(tmp_path, {"home": {"repository": str(repository)}})
    batch.write_data(400)

    def change() -> None:
        contract.write_text(contract.read_text().replace("max_rows: 256", "max_rows: 255"))

    with pytest.raises(BatchError, match="the contract of version 1 is another one on machine"):
        run_of(batch, LoopEngine(before=at(2, change)))
    assert not batch.output.exists()


def test_a_worker_that_does_not_share_the_folder_of_the_run_is_named(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(400)

    class Elsewhere(LoopEngine):
        def answer(self, task: Any, parts: Any) -> Any:
            return super().answer(replace(task, folder=replace(task.folder, path=tmp_path / "local")), parts)

    with pytest.raises(BatchError, match="is not on machine .*; want a folder that all machines of the engine share"):
        run_of(batch, Elsewhere())


def test_an_engine_that_loses_a_part_leaves_no_output(tmp_path: Path) -> None:
    batch = batch_of(tmp_path)
    batch.write_data(400)

    class Forgetful(LoopEngine):
        def answer(self, task: Any, parts: Any) -> Any:
            return (part for part in super().answer(task, parts) if part.number != 1)

    with pytest.raises(Interrupted, match="did not answer part 1"):
        run_of(batch, Forgetful())
    assert not batch.output.exists()


@pytest.mark.parametrize(("engine", "package"), [("ray", "Ray Data"), ("spark", "Spark")])
def test_an_engine_without_its_package_is_refused_with_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, package: str
) -> None:
    batch = Batch(tmp_path)
    assert main([str(batch.write_document()), "--engine", engine]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"{package} is missing (")
    assert err.endswith(f"); pip install './services/jobs[{engine}]'\n")
    assert not batch.output.parent.exists()


@pytest.mark.parametrize(
    ("word", "wanted"), [("s3://forecasts/night", "want a folder of this machine"), ("", "want either")]
)
def test_an_output_that_no_engine_can_write_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, wanted: str
) -> None:
    batch = Batch(tmp_path, {"write": {"parquet": word}})
    assert main([str(batch.write_document()), "--engine", "ray"]) in (1, 2)
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize("kind", [BatchError, Interrupted])
def test_the_error_of_a_part_is_found_in_what_an_engine_makes_of_it(kind: type[BatchError]) -> None:
    sentence = 'a "quoted" {"text": "x"} \\ file:\nrow 7: INVALID_ARGUMENT: Umlaut ü'
    trace = (
        f"Job aborted: {{0}}\n  jobs.batch.engines.engine.PartFailed: {PartFailed.of(kind(sentence))}\n\tat org.apache"
    )
    found = PartFailed.found_in(trace)
    assert (type(found), str(found)) == (kind, sentence)
    assert PartFailed.found_in("Job aborted") is None


def test_the_counts_of_a_part_are_read_as_they_were_written() -> None:
    part = AnsweredPart(3, "3.abc", 10, 2, 0.5)
    assert AnsweredPart.from_json(part.as_json()) == part
    with pytest.raises(ValueError, match="Expecting value"):
        AnsweredPart.from_json("")
