"""`triptych batch` in processes of its own: answers, kills, bad rows, files that change, a full disk."""

from __future__ import annotations

import json
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.readers.sources import Sources, store_of
from local.environments import ROOT
from local.stack import MODEL_REPOSITORY
from tests.integration.batch_runs import RESUMED, Batch, answers_of, variables
from tests.integration.s3_gateway import Gateway, s3_gateway
from tests.tables import pictures_table


def test_pictures_of_a_zip_are_answered(tmp_path: Path) -> None:
    import zipfile

    batch = Batch(
        tmp_path,
        {"model": "digits_de", "keep": ["name"], "text": ["label"], "read": {"uri": str(tmp_path / "digits.zip")}},
    )
    images = pictures_table(7).column("image").to_pylist()
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"{number}.png", image)
    status, _, err = batch.run()
    assert status == 0, err
    assert batch.records()["name"].to_pylist() == [f"{number}.png" for number in range(len(images))]


PARTS, ROWS = 50, 10_000

MOMENTS: dict[str, Callable[[Batch], bool]] = {
    "at its start": lambda batch: batch.run_folder.exists(),
    "while it plans": lambda batch: (batch.run_folder / "ledger.sqlite").exists(),
    "behind the first part": lambda batch: batch.committed() >= 1,
    "in the middle": lambda batch: batch.committed() >= PARTS // 2,
    "at 90 %": lambda batch: batch.committed() >= PARTS * 9 // 10,
    "while it publishes": lambda batch: (batch.run_folder / "output").exists() or batch.output.exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_without_a_row_lost_or_doubled(tmp_path: Path, moment: str) -> None:
    batch = Batch(tmp_path)
    table = batch.write_data(ROWS)
    batch.killed_when(lambda: MOMENTS[moment](batch))
    before = batch.committed()
    assert batch.output.exists() <= (moment == "while it publishes")
    status, _, err = batch.run()
    if status == 0:
        resumed = sum(map(int, RESUMED.findall(err)))
        assert resumed == before * 200
        if moment == "at 90 %":
            assert ROWS - resumed <= 0.11 * ROWS
    else:  # the kill came behind the end of the run
        assert "exists; --replace puts the new output in its place" in err
    assert batch.records()["number"].to_pylist() == list(range(ROWS))
    assert batch.records()["total"].to_pylist() == answers_of(table)["total"].to_pylist()
    assert batch.manifest()["rows"] == ROWS
    assert not batch.run_folder.exists()


def test_a_run_that_is_killed_again_and_again_ends_all_the_same(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(ROWS)
    for kill in range(1, 4):
        if batch.killed_when(lambda kill=kill: batch.committed() >= kill * 12):  # type: ignore[misc]
            break
    if not batch.output.exists():
        assert batch.run()[0] == 0
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_ctrl_c_gives_parts_back_and_the_same_command_goes_on(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(ROWS)
    process = batch.start()
    while batch.committed() < 2 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert (process.returncode, "Traceback" in err) == (130, False), err
    assert err.endswith("stopped; the same command goes on\n")
    assert not batch.output.exists()
    status, _, err = batch.run()
    assert (status, bool(RESUMED.search(err))) == (0, True)
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_a_second_process_of_a_run_is_refused(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(ROWS)
    first = batch.start()
    while not batch.committed() and first.poll() is None:
        time.sleep(0.001)
    first.send_signal(signal.SIGSTOP)
    status, _, err = batch.run()
    assert (status, "another process makes this run" in err) == (1, True)
    first.send_signal(signal.SIGCONT)
    first.communicate(timeout=100)
    assert first.returncode == 0
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_a_file_that_is_replaced_during_the_run_ends_it_without_an_output(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(ROWS)
    batch.write_data(ROWS, "other.parquet")
    (tmp_path / "data/other.parquet").rename(tmp_path / "other.parquet")
    process = batch.start()
    while not batch.committed() and process.poll() is None:
        time.sleep(0.001)
    (tmp_path / "other.parquet").replace(tmp_path / "data/sales.parquet")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "data/sales.parquet: has changed since the plan" in err
    assert not batch.output.exists()
    status, _, err = batch.run()  # a run that failed begins anew
    assert (status, RESUMED.search(err)) == (0, None), err
    assert batch.records()["number"].to_pylist() == list(range(ROWS))


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_goes_on_with_space(tmp_path: Path) -> None:
    batch = Batch(
        tmp_path, {"limits": {"partRows": 5000}, "write": {"parquet": str(tmp_path / "out/forecasts"), "inputs": True}}
    )
    batch.write_data(ROWS)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))

    status, _, err = batch.run(preexec_fn=limit)
    assert (status, "the same command goes on with it" in err) == (1, True), err
    assert "cannot be written" in err or "disk I/O error" in err  # the records, or the ledger
    assert not batch.output.exists()
    assert batch.run()[0] == 0
    assert batch.records()["number"].to_pylist() == list(range(ROWS))
    assert batch.manifest()["inputs"] == ["history", "price", "promotion"]


def test_bad_rows_end_a_run_or_go_to_errors_with_file_row_code_and_sentence(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    table = batch.write_data(1000)
    history = np.array(table["history"].to_pylist(), np.float32)
    history[[7, 613]] = -1
    column = pa.FixedSizeListArray.from_arrays(pa.array(history.reshape(-1)), 28)
    pq.write_table(
        table.set_column(table.column_names.index("history"), "history", column), tmp_path / "data/sales.parquet"
    )
    status, _, err = batch.run()
    assert status == 1
    assert "sales.parquet: row 7: INVALID_ARGUMENT: input 'history': " in err
    assert not batch.run_folder.exists()
    batch.document["onBadRows"] = "keep"
    status, out, err = batch.run()
    assert (status, out) == (0, f"{batch.output}: 998 rows, 2 bad rows by sales_forecast_de, version 1\n"), err
    errors = pq.read_table(batch.output / "errors.parquet").to_pylist()
    assert [(each["triptych_row"], each["code"]) for each in errors] == [
        (7, "INVALID_ARGUMENT"),
        (613, "INVALID_ARGUMENT"),
    ]
    assert all("history" in each["sentence"] and each["triptych_file"].endswith("sales.parquet") for each in errors)
    assert batch.records()["number"].to_pylist() == [n for n in range(1000) if n not in (7, 613)]
    assert batch.query("select count(*) as n from errors", "--csv")[1] == "n\n2\n"


def test_columns_that_do_not_fit_are_all_named_before_the_first_row(tmp_path: Path) -> None:
    batch = Batch(tmp_path, {"keep": ["shop_id"], "columns": {"history": "units"}})
    table = batch.write_data(10)
    pq.write_table(table.drop_columns(["price"]), tmp_path / "data/sales.parquet")
    status, _, err = batch.run()
    assert status == 1
    for fault in (
        "input 'history' (column 'units'): want FP32[n,28]",
        "input 'price': want FP32[n,7]",
        "column 'shop_id'",
    ):
        assert fault in err
    assert "the dataset has: " in err
    assert list((tmp_path / "out").iterdir()) == []  # nothing to go on with


def test_columns_of_a_csv_are_gathered_into_inputs(tmp_path: Path) -> None:
    names = {"history": [f"h{n}" for n in range(28)], "price": [f"p{n}" for n in range(7)]}
    names["promotion"] = [f"d{n}" for n in range(7)]
    batch = Batch(tmp_path, {"columns": names, "keep": ["number", "p0"], "onBadRows": "keep"})
    batch.document["write"]["inputs"] = True
    table = batch.write_data(500)
    (tmp_path / "data/sales.parquet").unlink()
    with (tmp_path / "data/sales.csv").open("w") as file:
        file.write(",".join(["number", *names["history"], *names["price"], *names["promotion"]]) + "\n")
        for row in table.to_pylist():
            values = [row["number"], *row["history"], *row["price"], *(str(each).lower() for each in row["promotion"])]
            values[-8] = "" if row["number"] == 9 else values[-8]
            file.write(",".join(map(str, values)) + "\n")
    status, _, err = batch.run()
    assert status == 0, err
    records, good = batch.records(), [n for n in range(500) if n != 9]
    (bad,) = pq.read_table(batch.output / "errors.parquet").to_pylist()
    assert (bad["triptych_row"], "price" in bad["sentence"], "null" in bad["sentence"]) == (9, True, True)
    assert records["number"].to_pylist() == good
    assert records["total"].to_pylist() == answers_of(table)["total"].take(good).to_pylist()
    assert records["price"].to_pylist() == table["price"].take(good).to_pylist()
    batch.document["columns"] = names | {"price": ["p0", "p9"]}
    status, _, err = batch.run("--replace")
    assert (status, "columns.price: the dataset has no column p9" in err) == (1, True), err


def test_an_output_that_exists_is_only_replaced_by_order(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(400)
    assert batch.run()[0] == 0
    first = batch.manifest()["run"]
    status, _, err = batch.run()
    assert (status, "exists; --replace puts the new output in its place" in err) == (1, True)
    batch.write_data(600)
    assert batch.run("--replace")[0] == 0
    assert batch.manifest()["run"] != first
    assert batch.records()["number"].to_pylist() == list(range(600))
    assert [path.name for path in batch.output.parent.iterdir()] == ["forecasts"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_only_the_output_of_a_batch_is_replaced(tmp_path: Path, kind: str) -> None:
    batch = Batch(tmp_path)
    batch.write_data(10)
    batch.output.parent.mkdir()
    if kind == "folder":
        (batch.output / "mine").mkdir(parents=True)
    elif kind == "file":
        batch.output.write_text("mine")
    else:
        batch.output.symlink_to(tmp_path / "data")
    status, _, err = batch.run("--replace")
    assert (status, "exists and is no output of a batch" in err) == (1, True), err
    assert batch.output.exists()
    assert (tmp_path / "data/sales.parquet").exists()


def test_a_server_that_is_away_leaves_a_run_that_the_same_command_goes_on_with(tmp_path: Path) -> None:
    batch = Batch(tmp_path, {"home": {"address": "127.0.0.1:1"}})
    batch.write_data(10)
    status, _, err = batch.run()
    assert (status, "the same command goes on with it" in err) == (1, True), err
    assert "127.0.0.1:1" in err
    assert batch.run_folder.exists()


def test_a_run_of_another_document_is_not_mixed_with_one_that_has_begun(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(ROWS)
    batch.killed_when(lambda: batch.committed() >= 2)
    batch.document["keep"] = ["number", "price"]
    status, _, err = batch.run()
    assert (status, "--restart drops it and begins anew" in err) == (1, True)
    status, _, err = batch.run("--restart")
    assert (status, RESUMED.search(err)) == (0, None)
    assert "price" in batch.records().column_names


def test_what_may_be_read_is_limited_by_the_environment(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    batch.write_data(10)
    status, _, err = batch.run(env=variables(BATCH_SOURCES=f"{tmp_path}/other s3://data"))
    assert (status, "lies outside of what may be read" in err) == (1, True)
    assert batch.run(env=variables(BATCH_SOURCES=str(tmp_path)))[0] == 0


def test_a_query_reads_records_errors_and_inputs_and_nothing_else(tmp_path: Path) -> None:
    batch = Batch(tmp_path, {"write": {"parquet": str(tmp_path / "out/forecasts"), "inputs": True}})
    table = batch.write_data(300)
    assert batch.run()[0] == 0
    total = sum(answers_of(table)["total"].to_pylist())
    assert batch.query("select sum(total) as total from records", "--csv") == (0, f"total\n{total}\n", "")
    status, out, _ = batch.query("select len(history) as days from inputs limit 1", "--json")
    assert (status, json.loads(out)) == (0, {"days": 28})
    join = "select count(*) as n from inputs one join inputs other using (triptych_file, triptych_row)"
    assert batch.query(join, "--csv")[1] == "n\n300\n"
    for statement in (
        f"select * from read_csv('{tmp_path}/nightly.yaml')",
        f"copy records to '{tmp_path}/copy.csv'",
        f"attach '{tmp_path}/new.db'",
        "drop view records",
        "select 1; select 2",
        "install httpfs",
        "set lock_configuration = false",
        "select nothing from records",
    ):
        status, out, err = batch.query(statement)
        assert (status, out, bool(err)) == (1, "", True), statement
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "nightly.yaml", "out"]


@pytest.fixture
def gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with s3_gateway(tmp_path / "s3", monkeypatch) as running:
        store_of.cache_clear()
        yield running
    store_of.cache_clear()


def test_objects_of_a_bucket_are_read_by_ranges_and_a_changed_one_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    batch = Batch(tmp_path, {"read": {"uri": "s3://models/in/*.parquet"}})
    batch.write_data(1000)
    gateway.store.put("in/de/sales.parquet", b"not below *")
    gateway.store.put("in/sales.parquet", tmp_path / "data/sales.parquet")
    assert [file.uri for file in Sources().find(["s3://models/in/*.parquet"])] == ["s3://models/in/sales.parquet"]
    status, _, err = batch.run()
    assert status == 0, err
    assert batch.records()["number"].to_pylist() == list(range(1000))
    file = Sources().find(["s3://models/in/sales.parquet"])[0]
    gateway.store.put("in/sales.parquet", b"x" * file.size_bytes)
    with pytest.raises(Exception, match="has changed since the plan"), Sources().open(file) as stream:
        stream.read()


def test_the_page_is_true_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs/guides/batch.md").read_text("utf-8")
    (python,), (document,), (commands,) = (
        re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for kind in ("python", "yaml", "sh")
    )
    (tmp_path / "model-repository").symlink_to(MODEL_REPOSITORY)
    (tmp_path / "nightly.yaml").write_text(document)
    monkeypatch.chdir(tmp_path)
    exec(compile(python, "batch.md", "exec"), {})
    printed = []
    for line in commands.splitlines():
        command, *words = shlex.split(line)
        assert command == "triptych"
        done = subprocess.run(
            [sys.executable, "-m", "triptych_cli", *words], capture_output=True, text=True, timeout=100
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        printed.append(done.stdout)
    plan, run, top, mean = printed
    assert "10,000 rows" in plan
    assert run == "forecasts: 10000 rows by sales_forecast_de, version 1\n"
    assert len(top.splitlines()) == 4
    assert mean.startswith("avg(total)\n")
