"""The database of the ledger: SQLite in a file, or Postgres. Its clock is the only one that leases know."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, ColumnElement, Connection, Double, event, insert, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from jobs.ledger.filesystems import network_file_system
from jobs.ledger.tables import SCHEMA_VERSION, metadata, schema
from triptych.errors import Unavailable

# A process that is stopped inside a transaction holds its locks. SQLite has no remedy, so others wait that long and
# report the ledger as unavailable. Postgres ends the transaction.
LOCK_TIMEOUT_S: Final = 10.0
WANT: Final = "want a file as in sqlite:///jobs.db, or postgresql://user@host/database"
_POSTGRES_OPTIONS: Final = {
    "application_name": "triptych-jobs",
    "synchronous_commit": "on",
    "lock_timeout": f"{LOCK_TIMEOUT_S:.0f}s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": f"{LOCK_TIMEOUT_S:.0f}s",
}
_CREATE_LOCK: Final = 0x7472_6970  # a number of ours among Postgres's advisory locks
_SQLITE_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL")


class Clock(FunctionElement[float]):
    """Seconds since the epoch by the database, at the moment of the statement."""

    name = "clock"
    type = Double()
    inherit_cache = True


@compiles(Clock, "sqlite")
def _sqlite_clock(_element: Clock, _compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Clock, "postgresql")
def _postgres_clock(_element: Clock, _compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"


class Database:
    """Transactions of one database. `clock` is the SQL of its time.

    Raises `Unavailable` if it does not answer, or if a lock is not free in time.
    """

    def __init__(self, engine: AsyncEngine, clock: ColumnElement[float] | None = None) -> None:
        self.engine = engine
        self.now: ColumnElement[float] = Clock() if clock is None else clock
        # SQLite has one writer. Those of this process take turns here, which costs no polling.
        self._one_writer = asyncio.Lock() if engine.dialect.name == "sqlite" else None

    async def create(self) -> None:
        """Create the tables if they are missing. Raises `ValueError` if they are those of another release."""
        async with self.write() as connection:
            if self.engine.dialect.name == "postgresql":
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({_CREATE_LOCK})"))
            await connection.run_sync(metadata.create_all)
            version = (await connection.execute(select(schema.c.version))).scalar()
            if version is None:
                await connection.execute(insert(schema).values(version=SCHEMA_VERSION))
            elif version != SCHEMA_VERSION:
                raise ValueError(
                    f"ledger {self}: want tables of version {SCHEMA_VERSION}, got version {version}; "
                    "use the release that made them, or an empty database"
                )

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; it is durable once the block has ended."""
        async with AsyncExitStack() as stack:
            if self._one_writer is not None:
                await stack.enter_async_context(self._one_writer)
            yield await stack.enter_async_context(self._transaction("IMMEDIATE"))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that only reads, and waits for no writer."""
        async with self._transaction("DEFERRED") as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, mode: str) -> AsyncIterator[AsyncConnection]:
        try:
            async with self.engine.connect() as connection:
                await connection.execution_options(sqlite_begin=mode)
                async with connection.begin():
                    yield connection
        except (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError) as error:
            raise self._unavailable(error) from error
        except DBAPIError as error:  # Postgres: a lock that is not free, or a connection that ended
            if not (error.connection_invalidated or _is_retryable(getattr(error.orig, "sqlstate", None))):
                raise
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> Unavailable:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        return Unavailable(f"ledger {self} does not answer: {reason}; try again")

    async def close(self) -> None:
        await self.engine.dispose()

    def __str__(self) -> str:
        return self.engine.url.set(drivername=self.engine.dialect.name).render_as_string(hide_password=True)


# Codes of Postgres: a lock, a deadlock, serialization, an idle transaction; and classes of them: connections,
# resources (full disk, memory, too many connections), an operator (timeout, a server that stops or starts), the system.
_RETRYABLE: Final = frozenset({"55P03", "40P01", "40001", "25P03"})
_RETRYABLE_CLASSES: Final = frozenset({"08", "53", "57", "58"})


def _is_retryable(code: str | None) -> bool:
    return code is not None and (code in _RETRYABLE or code[:2] in _RETRYABLE_CLASSES)


def database(url: str, clock: ColumnElement[float] | None = None) -> Database:
    """The database of a URL. Raises `ValueError` for another kind, and for a file that cannot be used."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError(f"ledger: {WANT}, got '{url}'") from None
    name = parsed.get_backend_name()
    if name == "sqlite":
        return Database(_sqlite(parsed), clock)
    if name == "postgresql":
        return Database(_postgres(parsed), clock)
    raise ValueError(f"ledger: {WANT}, got the kind '{name}'")


def _sqlite(url: URL) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise ValueError(f"ledger: {WANT}; a ledger in memory is not durable")
    folder = Path(url.database).absolute().parent
    if kind := network_file_system(folder):
        raise ValueError(
            f"ledger {url.database}: {folder} is on a network file system ({kind}), where SQLite loses what it wrote; "
            "want a file on a local disk, or postgresql://"
        )
    try:
        sqlite3.connect(url.database).close()  # the driver keeps a thread for a file that it could not open
    except sqlite3.Error as error:
        raise ValueError(f"ledger {url.database}: {error}; want a file in a folder that exists") from None
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": LOCK_TIMEOUT_S}, pool_timeout=LOCK_TIMEOUT_S
    )
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own
    cursor = connection.cursor()
    for pragma in _SQLITE_PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin a transaction: with the lock of the writer at once, or a later write fails if another came first."""
    mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _postgres(url: URL) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        connect_args={"server_settings": _POSTGRES_OPTIONS, "timeout": LOCK_TIMEOUT_S},
        pool_pre_ping=True,  # a connection may have ended while it was idle
        pool_timeout=LOCK_TIMEOUT_S,
    )
