"""Ledgers for tests: SQLite in a file, and a real Postgres with a database for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.ledger import Ledger, LedgerLimits
from tests.integration.postgres import Postgres

StartLedger = Callable[..., Awaitable[Ledger]]


@pytest.fixture(params=["sqlite", "postgres"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied()


@pytest.fixture
async def start(ledger_url: str) -> AsyncIterator[StartLedger]:
    """A function that opens a ledger of the same database, with the given limits."""
    ledgers: list[Ledger] = []

    async def opened(*, merge: Any = None, clock: Any = None, **limits: Any) -> Ledger:
        ledgers.append(await Ledger.open(ledger_url, LedgerLimits(**limits), merge=merge, clock=clock))
        return ledgers[-1]

    yield opened
    for ledger in ledgers:
        await ledger.close()


@pytest.fixture
async def ledger(start: StartLedger) -> Ledger:
    return await start()
