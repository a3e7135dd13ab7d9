"""A table of Postgres as the output of a batch: whole or not at all, updated by its key."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.integration.batch_runs import Batch, variables
from tests.integration.postgres import Postgres

TABLE = (
    "CREATE TABLE forecasts (number bigint PRIMARY KEY, units bigint[], total bigint, triptych_version int, note text)"
)
numbers = count()


class Table(Batch):
    """A batch into a table of a database of its own."""

    url = ""

    @property
    def run_folder(self) -> Path:
        return self.folder / ".nightly.run"

    def run_into(self, *options: str) -> tuple[int, str, str]:
        return self.run(*options, env=variables(BATCH_POSTGRES=self.url))

    async def ask(self, statement: str) -> Any:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()


@pytest.fixture
def batch(postgres: Postgres, tmp_path: Path) -> Table:
    made = Table(tmp_path, {"write": {"postgres": {"table": "forecasts", "key": ["number"]}}})
    made.url = postgres.new_database(f"batch-{next(numbers)}")
    return made


async def test_answers_are_inserted_and_those_of_known_keys_updated(batch: Table) -> None:
    batch.write_data(500)
    await batch.ask(TABLE)
    await batch.ask("INSERT INTO forecasts VALUES (7, NULL, -1, 0, 'mine'), (9999, NULL, -1, 0, 'other')")
    status, out, err = batch.run_into()
    assert (status, out) == (0, "forecasts: 500 rows by sales_forecast_de, version 1\n"), err
    rows = await batch.ask("SELECT * FROM forecasts ORDER BY number")
    assert [row["number"] for row in rows] == [*range(500), 9999]
    assert all(row["total"] == sum(row["units"]) for row in rows[:-1])
    assert (rows[7]["triptych_version"], rows[7]["note"], rows[-1]["total"]) == (1, "mine", -1)
    assert not batch.run_folder.exists()


async def test_a_row_that_the_table_refuses_leaves_it_as_it_was(batch: Table) -> None:
    batch.write_data(500)
    await batch.ask(f"{TABLE[:-1]}, CHECK (number < 400))")
    status, _, err = batch.run_into()
    assert (status, "violates check constraint" in err) == (1, True)
    assert (await batch.ask("SELECT count(*) FROM forecasts"))[0][0] == 0


async def test_a_kill_before_the_last_step_asks_no_row_again(batch: Table) -> None:
    batch.write_data(2000)
    await batch.ask(TABLE)
    process = batch.start(env=variables(BATCH_POSTGRES=batch.url))
    while batch.committed() < 5 and process.poll() is None:
        pass
    process.kill()
    process.communicate(timeout=100)
    before = batch.committed()
    status, _, err = batch.run_into()
    assert status == 0, err
    assert f"goes on behind {before * 200} rows" in err
    assert (await batch.ask("SELECT count(*), count(DISTINCT number) FROM forecasts"))[0][0] == 2000


@pytest.mark.parametrize(
    ("create", "fault"),
    [
        ("SELECT 1", "write.postgres.table: there is no table forecasts"),
        ("CREATE TABLE forecasts (number bigint PRIMARY KEY, units bigint[])", "has no column total"),
        ("CREATE TABLE forecasts (number bigint, units bigint[], total bigint)", "no unique or exclusion constraint"),
    ],
)
async def test_a_table_that_does_not_fit_is_refused_before_the_first_row(batch: Table, create: str, fault: str) -> None:
    batch.write_data(10)
    await batch.ask(create)
    status, _, err = batch.run_into()
    assert (status, fault in err) == (1, True), err


async def test_a_database_that_is_away_and_a_missing_url_are_named_without_its_password(batch: Table) -> None:
    batch.write_data(10)
    status, _, err = batch.run(env=variables(BATCH_POSTGRES="postgresql://me:secret@127.0.0.1:1/x"))
    assert (status, "the database of BATCH_POSTGRES does not answer" in err, "secret" in err) == (1, True, False), err
    status, _, err = batch.run(env=variables(BATCH_POSTGRES=""))
    assert (status, "BATCH_POSTGRES: want postgresql://user@host/database, got nothing" in err) == (1, True), err
