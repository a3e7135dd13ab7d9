"""The warm-up: a loaded version gets no request before it has answered made-up rows as its contract declares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from controller.catalog.entities import Catalog
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.triton_client import Count
from controller.placement.version_facts import VersionFacts
from tests.fakes.triton import HERE, Answer, FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read, turn
from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import (
    ContractViolation,
    DeadlineExceeded,
    Internal,
    LoadFailed,
    NotLoaded,
    Overloaded,
    StageUnavailable,
    TriptychError,
    Unavailable,
)

DE, NEW = ("sales_de", 1), ("sales_de", 2)


def bad(answer: Callable[[Array], Mapping[str, Array]], rows: int = 1) -> Answer:
    """Version 1 is good; version 2 gives this answer to requests of at least so many rows."""

    def give(key: VersionKey, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        x = tensors["x"]
        return answer(x) if key == NEW and len(x) >= rows else {"y": x}

    return give


def fails(error: TriptychError) -> Callable[[Array], Mapping[str, Array]]:
    def answer(x: Array) -> Mapping[str, Array]:
        raise error

    return answer


def warm(catalog: Catalog, *tritons: FakeTriton, **limits: float) -> PlacementHarness:
    return PlacementHarness(catalog, *tritons, warm_up=True, **limits)


def outcomes(harness: PlacementHarness) -> dict[str, float]:
    (family,) = harness.metrics.warm_ups.collect()
    return {each.labels["outcome"]: each.value for each in family.samples if each.name.endswith("total") and each.value}


async def test_a_version_is_placed_when_it_has_answered_one_row_and_several(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.answering.clear()
    harness = warm(catalog, triton)
    caller = harness.ask()
    while not triton.inferences:
        await asyncio.sleep(0)
    await harness.look()
    assert triton.loaded == {DE}
    assert harness.placed == {}
    assert not caller.done()
    triton.answering.set()
    assert await caller == HERE
    assert triton.inferences == [(DE, 1), (DE, 4)]
    assert outcomes(harness) == {"ok": 1}


@pytest.mark.parametrize(
    ("answer", "rows", "sentence"),
    [
        (lambda x: {"y": x.astype(np.float64)}, 1, r"model output 'y': want FP32\[n,2\] with n = 1, got FP64\[1,2\]"),
        (lambda x: {"y": x[:, :1]}, 1, r"got FP32\[1,1\]"),
        (lambda x: {"y": x[:, 0]}, 1, r"got FP32\[1\]"),
        (lambda x: {"y": x[None]}, 1, r"got FP32\[1,1,2\]"),
        (lambda x: {"z": x}, 1, "model output 'y': want .* got nothing"),
        (lambda x: {"y": x[:1]}, 2, r"4 made-up rows: .* with n = 4, got FP32\[1,2\]; one row is answered, 4 are not"),
        (
            fails(ContractViolation("predictor at a:1 refused: got 4 expected 5")),
            1,
            r"fails its warm-up: want input 'x' FP32\[n,2\], sent FP32\[1,2\], Triton answers: .*got 4 expected 5",
        ),
        (lambda x: {"y": x * np.nan}, 1, "1 made-up row: model output 'y': want finite values, got NaN or infinity"),
        (
            lambda x: {"y": x + np.float32(np.inf)},
            4,
            "4 made-up rows: model output 'y': want finite .*one row is answered",
        ),
        (fails(Internal("", "in /models/sales_de/2/model.onnx: Got: 2")), 1, "answers: in model.onnx: Got: 2$"),
        (fails(Internal("", "Stub process 'sales_de_0_0' is not healthy.")), 4, "not healthy.; one row is answered"),
    ],
)
async def test_a_version_that_contradicts_its_contract_is_refused_and_the_old_one_goes_on(
    catalog: Catalog, answer: Callable[[Array], Mapping[str, Array]], rows: int, sentence: str
) -> None:
    triton = FakeTriton()
    triton.answer = bad(answer, rows)
    harness = warm(catalog, triton)
    await harness.ensure()
    with pytest.raises(LoadFailed, match=sentence):
        await harness.ensure(version=2)
    await harness.settle()
    assert triton.loaded == {DE}
    assert harness.placed == {"sales_de": {1: HERE}}
    assert "fails its warm-up" in harness.placement.last_failures("sales_de", [1, 2])[2]
    tries = 2 if "not healthy" in sentence else 1  # a process that ended may have wanted memory for once
    assert outcomes(harness) == {"ok": 1, "failed": tries}
    with pytest.raises(LoadFailed, match=sentence):  # remembered: nothing is loaded again
        await harness.ensure(version=2)
    assert triton.loads == [DE, *[NEW] * tries]


@pytest.mark.parametrize(
    "error",
    [
        StageUnavailable("predictor", "triton:8001", "connection refused"),
        NotLoaded("predictor at triton:8001: NOT_FOUND: no model"),
        Internal("", "onnx runtime error 6: CUDA out of memory. Tried to allocate 2 GiB"),
        DeadlineExceeded("the deadline of the call has passed"),
    ],
)
async def test_a_triton_that_is_gone_or_busy_is_not_the_models_failure(catalog: Catalog, error: TriptychError) -> None:
    triton = FakeTriton()
    harness = warm(catalog, triton)

    def answer(key: VersionKey, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        triton.busy = isinstance(error, DeadlineExceeded)
        raise error

    triton.answer = answer
    with pytest.raises((Unavailable, DeadlineExceeded, Overloaded)):
        await harness.ensure()
    assert harness.placed == {}
    assert not harness.placement.last_failures("sales_de", [1])
    assert not triton.unloads
    triton.busy, triton.answer = False, lambda key, tensors: {"y": tensors["x"]}
    assert await harness.ensure() == HERE
    assert outcomes(harness) == {"unavailable": 1, "ok": 1}


async def test_a_model_that_hangs_on_its_first_request_is_refused(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.answering.clear()
    with pytest.raises(LoadFailed, match="nothing within 0.01 s, the limit of a warm-up"):
        await warm(catalog, triton, warm_up_timeout_s=0.01).ensure()


async def test_what_triton_had_before_and_what_is_not_to_be_warmed_up_gets_no_request(catalog: Catalog) -> None:
    triton = FakeTriton()
    triton.loaded = {DE}
    harness = warm(catalog, triton)
    await harness.look()
    assert harness.placed == {"sales_de": {1: HERE}}
    cold = PlacementHarness(catalog, triton, warm_up=False)
    await cold.ensure(version=2)
    assert triton.inferences == []


@pytest.mark.parametrize(("warm_up", "parsed"), [(True, [DE]), (False, [])])
async def test_a_load_parses_the_contract_only_for_a_warm_up(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, warm_up: bool, parsed: list[VersionKey]
) -> None:
    """Before, each load parsed it once more."""
    plan_of, keys = VersionFacts.plan_of, list[VersionKey]()

    async def recorded(facts: VersionFacts, key: VersionKey) -> Plan | None:
        keys.append(key)
        return await plan_of(facts, key)

    monkeypatch.setattr(VersionFacts, "plan_of", recorded)
    await PlacementHarness(catalog, FakeTriton(), warm_up=warm_up).ensure()
    assert keys == parsed


@pytest.mark.parametrize("leads", [True, False])
async def test_what_another_client_loads_is_hidden_until_it_has_answered(catalog: Catalog, leads: bool) -> None:
    triton = FakeTriton()
    triton.answer = bad(lambda x: {"y": x[:, :1]})
    harness = warm(catalog, triton)
    harness.placement.reconciler.lead(leads)
    await harness.look()
    triton.loaded = {DE, NEW}
    await harness.placement.reconciler.observe(harness.predictor())
    while sum(outcomes(harness).values()) < 2:
        await asyncio.sleep(0.01)
    await harness.settle()
    await harness.placement.reconciler.observe(harness.predictor())
    await asyncio.sleep(0.01)
    assert harness.placed == {"sales_de": {1: HERE}}
    assert triton.loaded == ({DE} if leads else {DE, NEW})
    assert [key for key, _ in triton.inferences].count(NEW) == 1  # remembered
    assert "fails its warm-up" in harness.placement.failures("sales_de", [1, 2])[2]


async def test_a_version_that_failed_stays_hidden_when_it_cannot_be_unloaded(catalog: Catalog) -> None:
    class Stubborn(FakeTriton):
        async def unload(self, model: str) -> None:
            raise Internal("no")

    triton = Stubborn()
    triton.answer = bad(lambda x: {"y": x[:, :1]})
    harness = warm(catalog, triton)
    with pytest.raises(LoadFailed):
        await harness.ensure(version=2)
    await harness.settle()
    await harness.look()
    assert NEW in triton.loaded
    assert harness.placed == {}


async def test_rows_of_a_warm_up_are_no_use_of_the_version(catalog: Catalog) -> None:
    triton = FakeTriton()
    harness = warm(catalog, triton)
    await harness.look()
    await harness.ensure()
    triton.requests[DE] = Count(2, rows=5)
    await turn()
    assert await harness.predictor().count() == {}
    triton.requests[DE] = Count(5, rows=8)
    assert await harness.predictor().count() == {DE: 3}


@pytest.mark.parametrize(("most", "rows"), [(1, [1]), (3, [1, 3]), (100, [1, 4])])
async def test_the_rows_are_limited_by_the_setting_and_by_the_model(
    catalog: Catalog, most: int, rows: list[int]
) -> None:
    triton = FakeTriton()
    await warm(catalog, triton, warm_up_rows=most).ensure()
    assert [count for _, count in triton.inferences] == rows


@pytest.mark.parametrize("model_input", ["datatype: BYTES, shape: [-1]", "datatype: FP32, shape: [-1, -1]"])
async def test_a_model_that_refuses_generated_values_is_accepted(
    publish: Callable[..., Path], models: Path, model_input: str
) -> None:
    folder = publish("sales_de")
    contract, config = folder / "contract.yaml", folder.parent / "config.pbtxt"
    reported = contract.read_text().replace("name: x, datatype: FP32, shape: [-1, 2]", f"name: x, {model_input}")
    contract.write_text(reported)
    text = config.read_text().replace("max_batch_size: 4", "max_batch_size: 0").replace("onnxruntime", "custom")
    dims, datatype = ("-1", "STRING") if "BYTES" in model_input else ("-1, -1", "FP32")
    text = text.replace("dims: [ 2 ]", "dims: [ -1, 2 ]").replace("-1, 2", dims, 1).replace("FP32", datatype, 1)
    config.write_text(text)
    triton = FakeTriton()

    def answer(key: VersionKey, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        raise Internal("", "no such text")

    triton.answer = answer
    harness = warm(read(models), triton)
    assert await harness.ensure() == HERE
    assert outcomes(harness) == {"unclear": 1}


def with_examples(folder: Path, *lines: str) -> None:
    contract = folder / "contract.yaml"
    text = contract.read_text() + "examples:\n" + "".join(f"  - {{name: monday, {line}}}\n" for line in lines)
    contract.write_text(text)


@pytest.mark.parametrize(
    ("example", "sentence"),
    [
        ("inputs: {x: [[1, 2.5]]}, outputs: {y: [[1, 2.5]]}", ""),
        ("inputs: {x: [[1, 2.5]]}, outputs: {y: [[1, 2.501]]}", ""),
        ("inputs: {x: [[1, 2.5]]}, outputs: {y: [[1, 2.6]]}, tolerance: 0.1", ""),
        (
            "inputs: {x: [[1, 2.5], [3, 4]]}, outputs: {y: [[1, 2.5], [3, 5]]}",
            r"version 1 fails its warm-up: example 'monday': output 'y'\[1,1\]: want 5.0 within 0.001, got 4.0",
        ),
    ],
)
async def test_a_version_that_misses_an_example_is_refused(
    publish: Callable[..., Path], models: Path, example: str, sentence: str
) -> None:
    with_examples(publish("sales_de"), example)

    async def test() -> None:
        harness = warm(read(models), FakeTriton())
        if not sentence:
            assert await harness.ensure() == HERE
            return
        with pytest.raises(LoadFailed, match=sentence):
            await harness.ensure()

    await test()


async def test_values_that_are_not_finite_are_answers_where_the_contract_says_so(
    publish: Callable[..., Path], models: Path
) -> None:
    contract = publish("sales_de") / "contract.yaml"
    said = contract.read_text().replace("outputs: [{name: y,", "outputs: [{name: y, finite: false,")
    assert "finite: false" in said
    contract.write_text(said)
    triton = FakeTriton()
    triton.answer = lambda key, tensors: {"y": tensors["x"] * np.nan}
    assert await warm(read(models), triton).ensure() == HERE


CARRIED = """\
inputs:
  - {name: x, datatype: FP32, shape: [-1, 2]}
  - {name: city, datatype: BYTES, shape: [-1]}
model:"""


@pytest.mark.parametrize("step", ["values: [Bonn, Ulm]", "values: [0, 1]"], ids=["a refusal", "another datatype"])
async def test_values_of_preprocess_that_postprocess_refuses_do_not_fail_a_version(
    models: Path, publish: Callable[..., Path], step: str
) -> None:
    """Made-up text is in no list; the callers' may be."""
    contract = publish("sales_de") / "contract.yaml"
    head, _, tail = contract.read_text().partition("inputs:")
    after = f"postprocess: [{{op: ordinal, input: city, {step}}}]\noutputs:"
    model = tail.partition("model:")[2].replace("\noutputs:", f"\n{after}", 1)
    contract.write_text(head + CARRIED + model)
    triton = FakeTriton()
    harness = warm(read(models), triton)
    assert await harness.ensure() == HERE
    assert triton.inferences == [(DE, 1), (DE, 4)]


async def test_outputs_that_are_not_finite_fail_it_all_the_same(models: Path, publish: Callable[..., Path]) -> None:
    contract = publish("sales_de") / "contract.yaml"
    head, _, tail = contract.read_text().partition("inputs:")
    after = "postprocess: [{op: ordinal, input: city, values: [Bonn]}]\noutputs:"
    contract.write_text(head + CARRIED + tail.partition("model:")[2].replace("\noutputs:", f"\n{after}", 1))
    triton = FakeTriton()
    triton.answer = lambda key, tensors: {"y": np.full_like(tensors["x"], np.nan)}
    with pytest.raises(LoadFailed, match="want finite values, got NaN"):
        await warm(read(models), triton).ensure()
