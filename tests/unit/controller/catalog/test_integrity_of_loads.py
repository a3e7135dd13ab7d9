"""Loads of a published version whose files changed: refused, and Triton never reads the changed files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from tests.fakes.triton import FakeTriton
from tests.model_folders import model_file
from tests.unit.controller.catalog.published_files import catalog_of, change_weights, folder, overwrite
from tests.unit.controller.placement.harness import PlacementHarness
from triptych.errors import LoadFailed

Publish = Callable[..., Path]


def harness(scanner: Scanner, triton: FakeTriton, catalog: Catalog, **limits: float) -> PlacementHarness:
    made = PlacementHarness(catalog, triton, **limits)
    made.placement.versions.integrity = scanner.integrity
    return made


def placed(scanner: Scanner, **limits: float) -> tuple[Catalog, FakeTriton, PlacementHarness]:
    """The catalog of what is published, and its placement on a Triton."""
    catalog, triton = catalog_of(scanner), FakeTriton()
    return catalog, triton, harness(scanner, triton, catalog, **limits)


def young_catalog(scanner: Scanner) -> Catalog:
    """The catalog of versions that are too young to have digests."""
    found = scanner.scan(settle=False, young_s=60)
    assert found is not None
    return build_catalog(found.folders, [], Catalog(), undeclared="lowest")


async def test_a_load_of_a_changed_version_is_refused_before_triton_is_asked(
    scanner: Scanner, publish: Publish
) -> None:
    version = publish("sales_de")
    catalog, triton = catalog_of(scanner), FakeTriton()
    change_weights(version)
    with pytest.raises(LoadFailed, match=r"differs from what was published.*model.onnx changed"):
        await harness(scanner, triton, catalog).ensure()
    assert triton.loads == []


async def test_a_version_that_changes_while_it_is_loaded_is_unloaded_again(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton, placed_harness = placed(scanner)
    triton.finish.clear()
    asked = placed_harness.ask()
    await triton.started.wait()
    change_weights(version)
    triton.finish.set()
    with pytest.raises(LoadFailed, match=r"differs from what was published.*model.onnx changed"):
        await asked
    await placed_harness.settle()
    assert triton.loaded == set()


async def test_what_was_loaded_before_the_digests_is_what_was_published(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog = young_catalog(scanner)
    await harness(scanner, FakeTriton(), catalog).ensure()
    (version / "model.onnx").write_bytes(model_file(b"other weights"))
    assert scanner.scan() is None
    assert "model.onnx changed" in folder(scanner, settle=True).versions[1].fault


async def test_a_failed_load_records_no_digests(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    (version / "model.onnx").write_bytes(model_file(b"half"))
    catalog, triton = young_catalog(scanner), FakeTriton()
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await harness(scanner, triton, catalog).ensure()
    (version / "model.onnx").write_bytes(model_file(b"half and half"))
    assert scanner.scan() is None
    assert folder(scanner, settle=True).versions[1].fault == ""


@pytest.mark.parametrize(("mends", "loads"), [(False, 1), (True, 2)])
async def test_a_scan_that_only_records_digests_does_not_forget_a_failed_load(
    scanner: Scanner, publish: Publish, mends: bool, loads: int
) -> None:
    version = publish("sales_de")
    catalog, triton = young_catalog(scanner), FakeTriton()
    assert catalog.model("sales_de").versions[1].files is None
    placed_harness = harness(scanner, triton, catalog)
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    if mends:
        (version / "model.onnx").write_bytes(model_file(b"other weights, and more"))
    recorded_digests = catalog
    while recorded_digests.model("sales_de").versions[1].files is None:
        observed = scanner.scan(settle=True)
        recorded_digests = (
            build_catalog(observed.folders, [], recorded_digests, undeclared="lowest") if observed else recorded_digests
        )
    placed_harness.placement.set_catalog(recorded_digests)
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    assert triton.loads == [("sales_de", 1)] * loads


async def test_a_version_that_never_was_loaded_may_be_mended_in_place(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton, placed_harness = placed(scanner)
    triton.refuses["sales_de", 1] = "no model"
    with pytest.raises(LoadFailed):
        await placed_harness.ensure()
    change_weights(version)
    catalog = catalog_of(scanner, catalog)
    assert catalog.model("sales_de").versions[1].fault == ""
    triton.refuses.clear()
    placed_harness.placement.set_catalog(catalog)
    assert await placed_harness.ensure()
    overwrite(version / "model.onnx", model_file(b"onnx"))
    assert "model.onnx changed" in folder(scanner).versions[1].fault


async def test_a_version_that_was_loaded_once_may_not(scanner: Scanner, publish: Publish) -> None:
    version = publish("sales_de")
    catalog, triton, placed_harness = placed(scanner)
    await placed_harness.ensure()
    triton.refuses["sales_de", 1] = "no memory"
    triton.restart()
    with pytest.raises(LoadFailed, match="no memory"):
        await placed_harness.ensure()
    change_weights(version)
    assert "model.onnx changed" in folder(scanner).versions[1].fault


async def test_a_load_of_another_version_does_not_make_triton_read_the_changed_one(
    scanner: Scanner, publish: Publish
) -> None:
    """A load makes Triton read all its versions of the model again if one of their files was written."""
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton, placed_harness = placed(scanner)
    await placed_harness.ensure(version=1)
    change_weights(first)
    with pytest.raises(LoadFailed, match=r"version 1 differs from what was published"):
        await placed_harness.ensure(version=2)
    assert triton.loads == [("sales_de", 1)]
    assert placed_harness.placed == {"sales_de": {1: ("triton:8001",)}}


async def test_an_unload_of_another_version_does_not_either(scanner: Scanner, publish: Publish) -> None:
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton, placed_harness = placed(scanner)
    await placed_harness.ensure(version=1)
    await placed_harness.ensure(version=2)
    change_weights(first)
    await placed_harness.unload("sales_de", 2, "idle for 1 s")
    assert triton.unloads == []
    placed_harness.placement.set_catalog(catalog_of(scanner, catalog))
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == ""


async def test_nor_does_one_beside_a_version_that_has_not_passed_its_warm_up(
    scanner: Scanner, publish: Publish
) -> None:
    """Triton holds the version, though no request is sent to it, and would read its changed files."""
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton, placed_harness = placed(scanner, warm_up=True, idle_ttl_s=100)
    await placed_harness.ensure(version=2)
    triton.answering.clear()
    caller = placed_harness.ask(version=1)
    while ("sales_de", 1) not in triton.loaded:
        await asyncio.sleep(0)
    await placed_harness.predictor().refresh()
    assert placed_harness.predictor().not_warm == {("sales_de", 1)}
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == "idle for 100 s"
    change_weights(first)
    placed_harness.placement.set_catalog(catalog_of(scanner, catalog))
    assert placed_harness.eviction_reason("sales_de", 2, now_s=1e9) == ""
    triton.answering.set()
    await asyncio.gather(caller, return_exceptions=True)


async def test_a_version_whose_folder_is_gone_does_not_keep_another_from_coming(
    scanner: Scanner, publish: Publish
) -> None:
    first = publish("sales_de", 1)
    publish("sales_de", 2)
    catalog, triton, placed_harness = placed(scanner)
    await placed_harness.ensure(version=1)
    shutil.rmtree(first)
    assert await placed_harness.ensure(version=2)
