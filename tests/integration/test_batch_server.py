"""`triptych batch` by a server: the answers of online calls, and a preprocess that is killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from local.stack import LocalStack
from tests.integration.batch_runs import Batch, answers_of
from tests.integration.conftest import MakeStack
from triptych_client import Ask

ROWS = 10_000


def test_both_homes_give_the_answers_of_online_calls(stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "remote").mkdir()
    local = Batch(tmp_path / "local")
    remote = Batch(tmp_path / "remote", {"home": {"address": stack.address("preprocess")}, "version": 1})
    table = local.write_data(1000)
    remote.write_data(1000)
    with Ask("sales_forecast_de", address=stack.address("preprocess"), keep=["number"], ignore_others=True) as ask:
        online = ask(table)
    for batch in (local, remote):
        status, out, err = batch.run()
        assert (status, out) == (0, f"{batch.output}: 1000 rows by sales_forecast_de, version 1\n"), err
        records = batch.records()
        assert records.select(online.column_names).to_pydict() == online.to_pydict()
        assert set(records["triptych_version"].to_pylist()) == {1}
        assert not batch.run_folder.exists()
    assert len({row for each in (local, remote) for row in each.records()["triptych_contract"].to_pylist()}) == 1
    assert local.records()["triptych_contract"][0].as_py() == local.manifest()["contract"]


@pytest.mark.timeout(400)
def test_a_run_outlives_a_preprocess_that_is_killed_and_started_again(make_stack: MakeStack, tmp_path: Path) -> None:
    stack = make_stack()
    batch = Batch(tmp_path, {"home": {"address": stack.address("preprocess"), "inFlight": 2}})
    table = batch.write_data(ROWS)
    process = batch.start()
    while batch.committed() < 2 and process.poll() is None:
        time.sleep(0.001)
    assert process.poll() is None
    stack.kill_component("preprocess")
    stack.start_component("preprocess")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert batch.records()["number"].to_pylist() == list(range(ROWS))
    assert batch.records()["total"].to_pylist() == answers_of(table)["total"].to_pylist()
