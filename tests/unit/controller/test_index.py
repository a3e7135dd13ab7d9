"""RepositoryIndex of many callers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from controller.catalog.entities import Edit
from controller.servicer import YIELD_EVERY, CatalogServicer
from controller.settings import Settings
from tests.unit.controller.placement.harness import read
from triptych.errors import DeadlineExceeded
from triptych.protocol.call import Call
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

ENTRIES = 3 * YIELD_EVERY


class Counting(CatalogServicer):
    """Servicer of a made-up catalog, which counts the indexes that are being made."""

    def __init__(self) -> None:
        nothing: Any = None
        metrics = StageMetrics("controller", Tracing())
        super().__init__(Settings(), metrics, nothing, nothing, nothing, nothing, lambda: True)
        self.at_once = self.most_at_once = 0

    def _index(self) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for number in range(ENTRIES):
            yield pb.RepositoryIndexResponse.ModelIndex(name=f"m{number}", state="READY")
        self.at_once -= 1


async def test_a_version_that_serves_on_says_which_edit_is_ignored(models: Path, publish: Callable[..., Path]) -> None:
    publish("sales_de", 1)
    publish("sales_de", 2)
    edits = (Edit(None, "config.pbtxt: ignored"), Edit(2, "2/contract.yaml: ignored"))
    catalog = replace(read(models), edits={"sales_de": edits})
    ready = SimpleNamespace(holders=lambda key: ["triton:8001"])
    placement: Any = SimpleNamespace(failing=lambda model, versions: {}, fleet=ready)
    hub: Any = SimpleNamespace(published=True, catalog=catalog)
    nothing: Any = None
    metrics = StageMetrics("controller", Tracing())
    servicer = CatalogServicer(Settings(), metrics, hub, placement, nothing, nothing, lambda: True)
    answer = await servicer.repository_index(pb.RepositoryIndexRequest(), Call.within(60))
    assert [(each.version, each.state, each.reason) for each in answer.models] == [
        ("1", "READY", "config.pbtxt: ignored"),
        ("2", "READY", "config.pbtxt: ignored; 2/contract.yaml: ignored"),
    ]


async def test_one_index_is_made_at_a_time() -> None:
    """100 at once took 560 MiB of a catalog of 10,000 versions (2026-11-30)."""
    servicer = Counting()
    asked = [servicer.repository_index(pb.RepositoryIndexRequest(), Call.within(60)) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    assert [len(answer.models) for answer in answers] == [ENTRIES] * 20
    assert servicer.most_at_once == 1


async def test_a_caller_whose_time_is_over_before_its_turn_costs_no_index() -> None:
    servicer = Counting()
    first = asyncio.ensure_future(servicer.repository_index(pb.RepositoryIndexRequest(), Call.within(60)))
    await asyncio.sleep(0)
    late = Call.within(60)
    second = asyncio.ensure_future(servicer.repository_index(pb.RepositoryIndexRequest(), late))
    await asyncio.sleep(0)
    late.shorten(0)
    await first
    with pytest.raises(DeadlineExceeded):
        await second
