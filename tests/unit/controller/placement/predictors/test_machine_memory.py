"""The default budget of a Triton on this machine: a share of its memory, or of what a container may have."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.entities import Catalog
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness
from triptych.runtime.machine_memory import is_here, machine_bytes
from triptych.runtime.settings import MIB

MEMINFO = "MemTotal:        8388608 kB\nMemFree:         1048576 kB\n"


@pytest.mark.parametrize(
    ("limit", "memory_bytes"),
    [("max\n", 8192 * MIB), (f"{512 * MIB}\n", 512 * MIB), ("9223372036854771712\n", 8192 * MIB), ("", 8192 * MIB)],
    ids=["no limit", "a container", "version 1 without a limit", "an empty file"],
)
def test_the_least_of_the_machine_and_its_cgroup_counts(tmp_path: Path, limit: str, memory_bytes: int) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "meminfo").write_text(MEMINFO)
    found = machine_bytes((tmp_path / "memory.max", tmp_path / "none"), tmp_path / "meminfo")
    assert found == memory_bytes


def test_where_nothing_can_be_read_there_is_no_limit(tmp_path: Path) -> None:
    assert machine_bytes((tmp_path / "none",), tmp_path / "none") == 0


def test_this_machine_has_memory() -> None:
    assert machine_bytes() > 64 * MIB


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:8001", True),
        ("127.0.0.2:8001", True),
        ("[::1]:8001", True),
        ("localhost:8001", True),
        ("10.0.0.7:8001", False),
        ("[fd00::7]:8001", False),
        ("triton:8001", False),
    ],
)
def test_a_triton_is_here_when_its_address_is_of_the_loopback(address: str, here: bool) -> None:
    assert is_here(address) is here


async def budgets(catalog: Catalog, *addresses: str, **limits: float) -> list[int]:
    harness = PlacementHarness(catalog, *map(FakeTriton, addresses), **limits)
    harness.placement.state._machine_bytes = 1000 * MIB
    return [harness.placement.state.budget(predictor).bytes // MIB for predictor in harness.placement.fleet]


async def test_tritons_here_share_half_of_the_memory_and_others_have_no_limit(catalog: Catalog) -> None:
    assert await budgets(catalog, "127.0.0.1:8001") == [500]
    assert await budgets(catalog, "127.0.0.1:8001", "127.0.0.1:8011", "10.0.0.7:8001") == [250, 250, 0]


async def test_the_budget_can_be_set_and_switched_off(catalog: Catalog) -> None:
    assert await budgets(catalog, "127.0.0.1:8001", memory_percent=0) == [0]
    assert await budgets(catalog, "127.0.0.1:8001", memory_percent=80) == [800]
    assert await budgets(catalog, "127.0.0.1:8001", max_bytes=7 * MIB) == [7]
