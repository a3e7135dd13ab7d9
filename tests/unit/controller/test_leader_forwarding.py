"""Text of a failed load for the caller, and in the status and the journal."""

from __future__ import annotations

import pytest

from controller.catalog.entities import Catalog
from controller.leader_forwarding import LoadForwarder, SingleReplica
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness
from triptych.errors import LoadFailed

WORDS = "Internal: TritonModelException: /srv/models/sales_de/1/model.onnx: no such file At: /srv/cache/model.py(113)"


async def test_a_caller_reads_no_path_of_triton_and_the_operator_all_of_its_words(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.refuses["sales_de", 1] = WORDS
    harness = PlacementHarness(catalog, triton)
    forwarder = LoadForwarder(harness.placement, SingleReplica())
    for _ in range(2):  # the second gets the cached failure
        with pytest.raises(LoadFailed, match="^model 'sales_de' could not be loaded: a file of it is missing$"):
            await forwarder.ensure_loaded("sales_de", 1, harness.call())
    assert harness.placement.failures("sales_de", [1]) == {1: WORDS}
    assert any(WORDS in each.outcome for each in harness.journal.latest)


async def test_the_controllers_error_of_a_load_reaches_the_caller(catalog: Catalog) -> None:
    harness = PlacementHarness(catalog, FakeTriton(), max_bytes=1)
    with pytest.raises(LoadFailed, match="no predictor has a budget of more than 1$"):
        await LoadForwarder(harness.placement, SingleReplica()).ensure_loaded("sales_de", 1, harness.call())
