"""The stream of the catalogue: whole first, then changes, and no memory for slow watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from repository.board import Board
from repository.catalogue import Catalogue, assemble
from repository.metrics import RepositoryMetrics
from repository.scan import Scanner
from triptych.errors import Draining, Overloaded
from triptych.proto import repository_pb2 as rp

Publish = Callable[..., Path]
Updates = AsyncGenerator[rp.CatalogueUpdate]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def make_board(max_watchers: int = 10) -> Board:
    return Board(RepositoryMetrics(CollectorRegistry(), []), max_watchers)


def watch(board: Board) -> Updates:
    return cast("Updates", board.updates())


def read(models: Path) -> Catalogue:
    scan = Scanner(models, None).look(settle=False)
    assert scan is not None
    return assemble(scan.folders, scan.documents, Catalogue(), serve_undeclared=True)


def names(update: rp.CatalogueUpdate) -> list[str]:
    return [model.name for model in update.models]


def test_the_first_update_is_whole_and_waits_for_the_first_catalogue(models: Path, publish: Publish) -> None:
    publish("sales_de")
    publish("sales_fr")

    async def test() -> None:
        board = make_board()
        first = asyncio.ensure_future(anext(watch(board)))
        await asyncio.sleep(0)
        board.set_placement({"sales_de": {1: ("triton:8001",)}})
        assert not first.done()
        board.set_catalogue(read(models))
        update = await first
        assert (update.revision, update.full, names(update)) == (1, True, ["sales_de", "sales_fr"])
        germany = update.models[0]
        assert (germany.family, germany.route) == ("sales", "DE")
        assert germany.versions[0] == rp.Version(version=1, percent=100, predictors=["triton:8001"])

    run(test())


def test_an_empty_catalogue_is_an_answer_too() -> None:
    async def test() -> None:
        board = make_board()
        board.set_catalogue(Catalogue())
        assert await anext(watch(board)) == rp.CatalogueUpdate(revision=1, full=True)

    run(test())


def test_later_updates_hold_only_what_changed(models: Path, publish: Publish) -> None:
    publish("sales_de")
    publish("sales_fr")

    async def test() -> None:
        board = make_board()
        board.set_catalogue(read(models))
        updates = watch(board)
        await anext(updates)
        board.set_placement({"sales_fr": {1: ("triton:8001",)}})
        update = await anext(updates)
        assert (update.revision, update.full, names(update)) == (2, False, ["sales_fr"])
        board.set_catalogue(Catalogue({"sales_fr": board.catalogue.model("sales_fr")}))
        update = await anext(updates)
        assert (update.full, names(update), list(update.removed)) == (False, [], ["sales_de"])

    run(test())


def test_what_nobody_can_see_is_no_update(models: Path, publish: Publish) -> None:
    publish("sales_de")

    async def test() -> None:
        board = make_board()
        board.set_catalogue(read(models))
        updates = watch(board)
        await anext(updates)
        board.set_catalogue(read(models))
        board.set_placement({"of_another": {1: ("triton:8001",)}})
        board.set_placement({"sales_de": {1: ("triton:8001",)}})
        assert (await anext(updates)).revision == 2

    run(test())


def test_a_slow_watcher_gets_many_changes_as_one(models: Path, publish: Publish) -> None:
    publish("sales_de")

    async def test() -> None:
        board = make_board()
        board.set_catalogue(read(models))
        updates = watch(board)
        await anext(updates)
        for number in range(1000):
            board.set_placement({"sales_de": {1: (f"triton:{number}",)}})
        update = await anext(updates)
        assert (update.revision, list(update.models[0].versions[0].predictors)) == (1001, ["triton:999"])

    run(test())


def test_a_change_wakes_every_watcher(models: Path, publish: Publish) -> None:
    publish("sales_de")

    async def test() -> None:
        board = make_board(100)
        board.set_catalogue(read(models))
        streams = [watch(board) for _ in range(100)]
        await asyncio.gather(*(anext(stream) for stream in streams))
        waiting = asyncio.gather(*(anext(stream) for stream in streams))
        await asyncio.sleep(0)
        board.set_placement({"sales_de": {1: ("triton:8001",)}})
        assert {update.revision for update in await waiting} == {2}

    run(test())


def test_watchers_are_counted_and_bounded() -> None:
    async def test() -> None:
        board = make_board(max_watchers=1)
        board.set_catalogue(Catalogue())
        first = watch(board)
        await anext(first)
        with pytest.raises(Overloaded, match="1 watchers, the limit"):
            await anext(watch(board))
        await first.aclose()
        await anext(watch(board))

    run(test())


def test_closing_ends_watchers_that_wait_and_those_that_come() -> None:
    async def test() -> None:
        board = make_board()
        board.set_catalogue(Catalogue())
        updates = watch(board)
        await anext(updates)
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        board.close()
        for ended in (waiting, anext(watch(board))):
            with pytest.raises(Draining):
                await ended

    run(test())
