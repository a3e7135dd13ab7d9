"""Skipped objects of a store are shown with their model and version."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from controller.catalog.skipped import MAX_LOGGED, log_lines, with_skipped
from controller.catalog.watcher import CatalogWatcher
from controller.metrics import ControllerMetrics
from tests.model_folders import publish
from triptych_cli.mirror.command import DownloadReporter


def test_a_version_that_did_not_come_is_broken_and_the_others_are_served(models: Path) -> None:
    publish(models, "sales_de")
    scan = Scanner(models, None).scan(settle=False)
    assert scan is not None
    skipped = {
        "sales_de/2/contract.yaml": "two: refused",
        "sales_de/1/stray": "one: has a backslash",
        "sales_fr/config.pbtxt": "fr: refused",
        "sales_it/9999999999999999999/x": "it: refused",
        "stray//x": "stray: has an empty part",
        "x": "beside",
    }
    catalog = build_catalog(with_skipped(scan.folders, skipped), (), Catalog(), undeclared="lowest")
    assert set(catalog.models) == {"sales_de"}
    assert list(catalog.models["sales_de"].versions) == [1]
    assert catalog.invalid["sales_de", 2] == "two: refused"
    assert {name for name, number in catalog.invalid if number is None} == {"sales_fr", "sales_it", "stray"}


async def test_each_is_reported_once_and_counted_and_gone_when_it_is_gone(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    publish(models, "sales_de")
    answers = iter([{"a//x": "a: odd"}, {"a//x": "a: odd"}, {"a//x": "a: odd", "b//x": "b: odd"}, {}])

    def count() -> str:
        lines = generate_latest(registry).decode().splitlines()
        return next(line for line in lines if line.startswith("triptych_store_objects_skipped "))

    watcher = CatalogWatcher(
        Scanner(models, None),
        ControllerMetrics(registry),
        lambda catalog: None,
        undeclared="lowest",
        refresh=lambda: next(answers),
    )
    await watcher.start()
    await watcher.scan()
    await watcher.scan()
    assert count().endswith(" 2.0")
    await watcher.scan()
    assert count().endswith(" 0.0")
    faults = [vars(record).get("fault", "") for record in caplog.records if record.levelname == "WARNING"]
    assert sorted({fault for fault in faults if ": odd" in fault and fault.count(":") == 1}) == ["a: odd", "b: odd"]
    assert len(faults) == len(set(faults))


def test_a_bucket_full_of_unexpected_objects_is_a_hundred_lines_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    faults = [f"s3://models/eu//{number}: has an empty part" for number in range(100_000)]
    assert len(log_lines(faults)) == MAX_LOGGED + 1
    reporter = DownloadReporter(lambda: False)
    for _ in range(3):
        reporter.left_out(faults)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_LOGGED + 1
    assert sum("99900 more objects of the store are left out" in line for line in lines) == 1
