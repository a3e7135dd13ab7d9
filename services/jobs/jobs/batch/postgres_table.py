"""A table of Postgres as the output of a run: all answers in one transaction at its end, by a staging table."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import asyncpg
import pyarrow.parquet as pq

from jobs.batch.document import Postgres
from jobs.batch.errors import BatchError, Interrupted
from jobs.batch.folder import RunFolder
from jobs.batch.manifest import Manifest
from jobs.batch.output import CommittedPart
from jobs.writers.part import records_schema

CONNECT_S: Final = 10.0
COMMAND_S: Final = 3600.0
STAGING: Final = "batch_staging"
ROWS_AT_ONCE: Final = 5_000
RUNS: Final = "triptych_batch_runs"  # the runs whose answers are in this database, with their manifests
_OF_DATA: Final = (asyncpg.CardinalityViolationError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class PostgresTable:
    """Upserts answers into a table that exists. It gets those columns of the answers that it has.

    Columns of the record (`triptych_...`) may be missing in the table, others may not.
    """

    def __init__(self, options: Postgres, folder: Path) -> None:
        self.folder = RunFolder(folder)
        self._options, self._columns = options, tuple[str, ...]()

    async def check(self, *, replace: bool) -> None:
        """Raises `BatchError` without a URL, and `Interrupted` if the database does not answer."""
        async with self._connected():
            pass

    async def check_columns(self, answers: Any) -> None:
        """Raises `BatchError` if the table, its key or a column is missing."""
        names, table = records_schema(answers).names, self._options.table
        async with self._connected() as connection:
            found = await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
                table,
            )
            there = {row["attname"] for row in found}
            if not there:
                raise BatchError(f"write.postgres.table: there is no table {table}")
            missing = [name for name in names if name not in there and not name.startswith("triptych_")]
            if missing:
                raise BatchError(f"table {table} has no column {', '.join(missing)}")
            self._columns = tuple(name for name in names if name in there)
            if outside := [name for name in self._options.key if name not in self._columns]:
                raise BatchError(f"write.postgres.key: the answers have no column {', '.join(outside)}")
            try:
                await connection.execute(f"EXPLAIN {self._upsert(table)}")
            except asyncpg.PostgresError as error:
                raise BatchError(f"table {table}: {error}") from None

    async def manifest(self, run: str) -> Manifest | None:
        """The manifest, if the database has the answers of this run."""
        async with self._connected() as connection:
            if await connection.fetchval("SELECT to_regclass($1)", RUNS) is None:
                return None
            text = await connection.fetchval(f"SELECT manifest FROM {RUNS} WHERE run = $1", run)
            return Manifest(**json.loads(text)) if text else None

    async def publish(
        self, parts: Sequence[CommittedPart], answers: Any, manifest: Manifest, *, has_errors: bool
    ) -> None:
        """Write all answers and the manifest in one transaction."""
        try:
            async with self._connected() as connection, connection.transaction():
                await connection.execute(f"CREATE TABLE IF NOT EXISTS {RUNS} (run text PRIMARY KEY, manifest text)")
                staging = f"CREATE TEMP TABLE {STAGING} ON COMMIT DROP AS SELECT * FROM {self._options.table} LIMIT 0"
                await connection.execute(staging)
                for rows in _rows(parts, self._columns):
                    await connection.copy_records_to_table(STAGING, records=rows, columns=self._columns)
                await connection.execute(self._upsert(STAGING))
                values = (manifest.run, json.dumps(asdict(manifest), ensure_ascii=False))
                await connection.execute(f"INSERT INTO {RUNS} VALUES ($1, $2) ON CONFLICT DO NOTHING", *values)
        except _OF_DATA as error:
            raise BatchError(f"table {self._options.table}: {error}") from error
        except asyncpg.PostgresError as error:
            raise Interrupted(f"table {self._options.table}: {error}") from error

    def _upsert(self, source: str) -> str:
        """The statement that inserts or updates the rows of `source`."""
        columns = ", ".join(map(_quoted, self._columns))
        key = ", ".join(map(_quoted, self._options.key))
        others = [name for name in self._columns if name not in self._options.key]
        changes = ", ".join(f"{_quoted(name)} = EXCLUDED.{_quoted(name)}" for name in others)
        action = f"UPDATE SET {changes}" if changes else "NOTHING"
        into = f"INSERT INTO {self._options.table} ({columns}) SELECT {columns} FROM {source}"
        return f"{into} ON CONFLICT ({key}) DO {action}"

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Any]:
        variable = self._options.variable
        url = os.environ.get(variable, "")
        if not url.startswith(("postgresql://", "postgres://")):
            got = "another text" if url else "nothing"
            raise BatchError(f"{variable}: want postgresql://user@host/database, got {got}")
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=COMMAND_S)
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise Interrupted(f"the database of {variable} does not answer: {error or type(error).__name__}") from error
        try:
            yield connection
        finally:
            await connection.close(timeout=CONNECT_S)


def _rows(parts: Sequence[CommittedPart], columns: Sequence[str]) -> Iterator[Sequence[Any]]:
    """The records of all parts as tuples, some at once."""
    for part in parts:
        with pq.ParquetFile(part.records) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=list(columns)):
                yield list(zip(*(batch.column(name).to_pylist() for name in columns), strict=True))


def _quoted(name: str) -> str:
    """A name of SQL."""
    return '"' + name.replace('"', '""') + '"'
