"""A Postgres that ends and starts again and again: each call succeeds, or says that the ledger does not answer."""

from __future__ import annotations

import asyncio

from jobs.ledger import Ledger
from tests.integration.postgres import postgres_server
from triptych.errors import Unavailable

KILLS, CALLERS = 6, 8


async def test_each_failure_of_a_killed_database_is_unavailability() -> None:
    with postgres_server() as server:
        ledger = await Ledger.open(server.url())
        is_over, refused = asyncio.Event(), 0

        async def call_again_and_again() -> None:
            nonlocal refused
            while not is_over.is_set():
                try:
                    assert await ledger.claim("w", 5.0) is None
                except Unavailable:
                    refused += 1

        async def kill_again_and_again() -> None:
            try:
                for _ in range(KILLS):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    await ledger_answers(ledger)
            finally:
                is_over.set()

        await asyncio.gather(kill_again_and_again(), *(call_again_and_again() for _ in range(CALLERS)))
        assert refused
        await ledger.close()


async def ledger_answers(ledger: Ledger) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await ledger.open_parts()
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return
