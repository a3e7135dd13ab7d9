"""Free memory goes back to the system while the process goes on."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from triptych.runtime import free_memory

MIB = 1 << 20
BLOCK_BYTES, BLOCKS = 64 << 10, 1024  # each from the heap of glibc, and not from a mapping of its own


async def test_memory_that_is_free_before_a_small_object_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "PERIOD_S", 0.0)
    process = psutil.Process()
    blocks = [b"x" * BLOCK_BYTES for _ in range(BLOCKS)]
    full_bytes = process.memory_info().rss
    last = blocks[-1]  # the end of the heap
    del blocks
    assert process.memory_info().rss > full_bytes - 32 * MIB
    returning = asyncio.create_task(free_memory.return_free_memory())
    async with asyncio.timeout(60):
        while process.memory_info().rss > full_bytes - 48 * MIB:
            await asyncio.sleep(0)
    returning.cancel()
    assert len(last) == BLOCK_BYTES
