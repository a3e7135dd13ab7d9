"""Sources of the catalog: folders, and documents from elsewhere."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controller.catalog import incremental
from controller.catalog import watcher as watcher_module
from controller.catalog.builder import CatalogPart, Undeclared, build_part
from controller.catalog.entities import Catalog, ScannedModel
from controller.catalog.incremental import IncrementalBuilder
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import Document, DocumentSource, ServedModel
from controller.catalog.watcher import CatalogWatcher
from controller.metrics import ControllerMetrics
from tests.fakes.api_server import settle, spec

Publish = Callable[..., Path]


class Elsewhere:
    """Documents that the test sets."""

    def __init__(self) -> None:
        self.documents: tuple[Document, ...] = ()
        self._on_change: Callable[[], None] = lambda: None

    async def start(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change

    def now(self) -> tuple[Document, ...]:
        return self.documents

    def put(self, shares: dict[int, int]) -> None:
        head = {"apiVersion": "triptych.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "sales-de"}}
        served = ServedModel.model_validate(head | {"spec": spec("sales_de", shares)})
        self.documents = (Document.of(DocumentSource("servedmodel/here/sales-de"), served),)
        self._on_change()


def watcher(
    models: Path, elsewhere: Elsewhere, reported: list[Catalog], undeclared: Undeclared = "none"
) -> CatalogWatcher:
    metrics = ControllerMetrics(CollectorRegistry())
    return CatalogWatcher(Scanner(models, None), metrics, reported.append, undeclared=undeclared, documents=elsewhere)


async def test_documents_that_change_together_are_one_new_catalog(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.001)
    publish("sales_de", 1)
    publish("sales_de", 2)
    elsewhere, reported = Elsewhere(), list[Catalog]()
    followed = watcher(models, elsewhere, reported)
    await followed.start()
    assert [set(catalog.models) for catalog in reported] == [set()]
    elsewhere.put({1: 100})
    elsewhere.put({1: 90, 2: 10})
    async with asyncio.timeout(10):
        while len(reported) == 1:
            await asyncio.sleep(0.001)
    assert [catalog.model("sales_de").traffic for catalog in reported[1:]] == [{1: 90, 2: 10}]


async def test_the_start_builds_once_and_the_first_change_its_model_alone(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.001)
    for model in ("sales_de", "sales_fr", "sales_it"):
        publish(model)
    elsewhere, reported, built = Elsewhere(), list[Catalog](), list[list[str]]()

    def record(folders: Collection[ScannedModel], *arguments: Any) -> CatalogPart:
        built.append([folder.name for folder in folders])
        return build_part(folders, *arguments)

    monkeypatch.setattr(incremental, "build_part", record)
    followed = watcher(models, elsewhere, reported, undeclared="lowest")
    await followed.start()
    elsewhere.put({1: 100})
    async with asyncio.timeout(10):
        while len(reported) == 1:
            await asyncio.sleep(0.001)
    assert built == [["sales_de", "sales_fr", "sales_it"], ["sales_de"]]
    assert reported[-1].model("sales_de").document
    assert reported[-1].model("sales_fr") is reported[0].model("sales_fr")


async def test_a_folder_that_is_lost_leaves_everything_as_it_was(
    models: Path, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    publish("sales_de", 1)
    elsewhere, reported = Elsewhere(), list[Catalog]()
    followed = watcher(models, elsewhere, reported)
    elsewhere.put({1: 100})
    await followed.start()
    shutil.rmtree(models)
    await followed.scan()
    await settle()
    assert [catalog.model("sales_de").traffic for catalog in reported] == [{1: 100}]
    assert any("cannot be read" in str(getattr(record, "fault", "")) for record in caplog.records)


async def test_an_unreachable_store_is_reported_once_and_its_copies_are_still_read(
    models: Path, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    away = "s3://models/eu: cannot be read: nobody there"
    reported = list[Catalog]()
    answers = iter([{}, {"": away}, {"": away}, {"": away}])
    metrics = ControllerMetrics(CollectorRegistry())
    followed = CatalogWatcher(
        Scanner(models, None), metrics, reported.append, undeclared="lowest", refresh=lambda: next(answers)
    )
    await followed.start()
    publish("sales_de", 1)
    for _ in range(3):
        await followed.scan()
    assert [set(catalog.models) for catalog in reported] == [set(), {"sales_de"}]
    assert [getattr(record, "fault", "") for record in caplog.records if record.levelname == "WARNING"] == [away]


async def test_the_health_of_the_store_is_a_metric_and_part_of_what_is_unknown(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = "s3://models/eu: cannot be read: 403 Forbidden"
    now_s, registry, reported = 1000.0, CollectorRegistry(), list[Catalog]()
    monkeypatch.setattr("controller.catalog.watcher.time.time", lambda: now_s)
    publish("sales_de", 1)
    elsewhere, answers = Elsewhere(), iter([{}, {"": away}, {"": away}, {}])
    followed = CatalogWatcher(
        Scanner(models, None),
        ControllerMetrics(registry),
        reported.append,
        undeclared="lowest",
        documents=elsewhere,
        refresh=lambda: next(answers),
    )
    elsewhere.put({2: 100})
    await followed.start()

    async def health() -> tuple[float | None, float | None, str]:
        values = [registry.get_sample_value(f"triptych_store_{name}") for name in ("up", "read_timestamp_seconds")]
        (result,) = reported[-1].document_results.values()
        return values[0], values[1], result.problems[0][1].partition("; the models cannot be read now: ")[2]

    assert await health() == (1, 1000, "")
    now_s = 2000.0
    await followed.scan()
    assert await health() == (0, 1000, away)
    before = len(reported)
    await followed.scan()
    assert len(reported) == before
    await followed.scan()
    assert await health() == (1, 2000, "")


async def test_a_document_that_asks_for_an_unknown_version_starts_a_scan_of_the_models(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "MIN_SETTLE_S", 0.001)
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.001)
    publish("sales_de", 1)
    elsewhere, reported = Elsewhere(), list[Catalog]()
    followed = watcher(models, elsewhere, reported)
    elsewhere.put({1: 100})
    await followed.start()
    publish("sales_de", 2)
    elsewhere.put({2: 100})
    async with asyncio.timeout(10):
        for _ in range(2):  # what is new has to rest between the two
            await followed.next_scan(3600)
    assert reported[-1].model("sales_de").traffic == {2: 100}
    idle = asyncio.create_task(followed.next_scan(3600))
    await settle()
    assert not idle.done()
    idle.cancel()


async def test_a_catalog_that_could_not_be_built_is_built_at_the_next_scan(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("sales_de", 1)
    metrics, reported = ControllerMetrics(CollectorRegistry()), list[Catalog]()
    followed = CatalogWatcher(Scanner(models, None), metrics, reported.append, undeclared="lowest")
    await followed.start()
    publish("sales_fr", 1)
    await followed.scan()  # the new folder settles

    def broken(*_: object, **__: object) -> Catalog:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(IncrementalBuilder, "apply", broken)
        with pytest.raises(ZeroDivisionError):
            await followed.scan()
    await followed.scan()
    assert set(reported[-1].models) == {"sales_de", "sales_fr"}


async def test_documents_that_change_all_the_time_delay_no_scan(
    models: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change began a rebuild of its own, so a scan waited behind as many rebuilds as there had been changes."""
    monkeypatch.setattr(watcher_module, "DEBOUNCE_S", 0.0)
    publish("sales_de", 1)
    elsewhere, reported = Elsewhere(), list[Catalog]()
    followed = watcher(models, elsewhere, reported)
    await followed.start()
    async with followed._building:  # a rebuild that takes its time
        for number in range(100):
            elsewhere.put({1: 100 - number, 2: number})
            await settle()
        publish("sales_fr", 1)
        scanning = asyncio.create_task(followed.scan())
        await settle()
    async with asyncio.timeout(30):
        await scanning
        while followed._debounce is not None:
            await asyncio.sleep(0.001)
    assert len(reported) <= 1 + 2
    elsewhere.put({1: 100})
    async with asyncio.timeout(30):
        while reported[-1].model("sales_de").traffic != {1: 100}:
            await asyncio.sleep(0.001)
