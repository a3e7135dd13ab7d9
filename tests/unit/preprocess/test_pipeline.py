"""Requests in one batch: each gets its own rows, or its own error. Triton and postprocess are scripted here.

tests/integration/test_batching.py sends the same through the real ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from tests.unit.preprocess.pipeline_trial import DIGITS, Trial, sales, sent
from triptych.datatypes import Array
from triptych.errors import (
    AnswerTooLarge,
    ContractViolation,
    InvalidInput,
    InvalidRequest,
    Overloaded,
    Unavailable,
)
from triptych.postprocessing import PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response, encode_response


async def test_requests_of_one_batch_each_get_their_rows_and_their_id() -> None:
    trial = Trial()
    results = await trial.infer(*[trial.request(sales(100 * n, rows=n), id=f"id-{n}") for n in (1, 2, 3)])
    assert trial.upstreams.batches == [6]
    for n, result in zip((1, 2, 3), results, strict=True):
        answer = result.response
        assert (answer.id, answer.model_name, answer.model_version) == (f"id-{n}", "m", "1")
        assert "triptych_preprocess_revision" in answer.parameters
        got = decode_response(answer)
        assert got["units"].tolist() == [[100 * n + row] * 7 for row in range(n)]
        assert got["total"].tolist() == [7 * (100 * n + row) for row in range(n)]
        assert (result.rows, set(result.timings)) == (n, {"queue", "transform", "predict", "postprocess"})


async def test_requests_over_the_limit_of_bytes_are_refused_until_others_have_ended() -> None:
    size = sent(sales(1)).size_bytes
    trial = Trial(max_bytes_in_flight=2 * size)
    outcomes = await trial.send(*(trial.request(sales(n)) for n in range(3)))
    assert [type(outcome) for outcome in outcomes] == [dict, dict, Overloaded]
    assert f"{2 * size} bytes are in flight here, and {size} more" in str(outcomes[2])
    trial.upstreams.fails = lambda _: Unavailable("gone")
    assert [type(outcome) for outcome in await trial.send(trial.request(sales(3)))] == [Unavailable]
    trial.upstreams.fails = lambda _: None
    assert [type(outcome) for outcome in await trial.send(*(trial.request(sales(n)) for n in (4, 5)))] == [dict] * 2


async def test_a_request_over_the_limit_of_bytes_is_answered_when_it_is_alone() -> None:
    (outcome,) = await (trial := Trial(max_bytes_in_flight=1)).send(trial.request(sales(1)))
    assert outcome["total"].tolist() == [7]


async def test_a_request_that_the_contract_refuses_has_its_error_and_the_others_are_one_batch() -> None:
    trial = Trial()
    bad = sales(1, rows=2)
    bad["price"][1, 3] = -1
    outcomes = await trial.send(*(trial.request(each) for each in (sales(10), bad, sales(20))))
    assert isinstance(outcomes[1], InvalidInput)
    assert "row 1" in str(outcomes[1])
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[70], [140]]
    assert trial.upstreams.batches == [2]


async def test_a_refused_request_keeps_its_error_when_the_rest_of_its_batch_fails() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda _: Unavailable("away")
    bad = {**sales(1), "price": np.full((1, 7), -1, np.float32)}
    outcomes = await trial.send(*(trial.request(each) for each in (sales(10), bad, sales(20))))
    assert [type(outcome) for outcome in outcomes] == [Unavailable, InvalidInput, Unavailable]


@pytest.mark.parametrize(
    "wrong",
    [
        {**sales(1), "price": np.ones((2, 7), np.float32)},
        {name: array[:0] for name, array in sales(1).items()},
        {name: array for name, array in sales(1).items() if name != "price"},
        {**sales(1), "history": np.ones((1, 27), np.float32)},
        {**sales(1), "history": np.float32(1).reshape(())},
        {},
    ],
    ids=["uneven rows", "no rows", "missing input", "wrong shape", "rank 0", "nothing"],
)
async def test_a_request_of_another_shape_is_in_no_batch_with_others(wrong: dict[str, Array]) -> None:
    trial = Trial()
    outcomes = await trial.send(trial.request(sales(1)), trial.request(wrong), trial.request(sales(2)))
    assert isinstance(outcomes[1], InvalidRequest)
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[7], [14]]
    assert trial.upstreams.batches == [2]


async def test_when_the_model_refuses_a_batch_each_request_is_tried_alone() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda tensors: ContractViolation("no 13") if (tensors["features"] == 13).any() else None
    outcomes = await trial.send(*(trial.request(sales(value)) for value in (1, 13, 2)))
    assert isinstance(outcomes[1], ContractViolation)
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[7], [14]]
    assert trial.upstreams.batches == [3, 1, 1, 1]


async def test_a_batch_has_the_first_trace_that_is_one() -> None:
    trial, parent = Trial(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    calls = [Call.within(20, metadata) for metadata in ({}, {"traceparent": "f" * 30_000}, {"traceparent": parent})]
    await trial.send(*(trial.request(sales(1), call=call) for call in calls))
    assert trial.upstreams.traces == [(("traceparent", parent),)]


async def test_when_the_answer_to_a_batch_is_too_large_each_request_is_tried_alone() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda tensors: AnswerTooLarge("too large") if len(tensors["features"]) > 1 else None
    outcomes = await trial.send(trial.request(sales(1)), trial.request(sales(2)))
    assert [outcome["total"].tolist() for outcome in outcomes] == [[7], [14]]
    assert trial.upstreams.batches == [2, 1, 1]


async def test_each_request_that_is_tried_alone_has_the_times_of_its_own_calls() -> None:
    trial = Trial()
    trial.upstreams.takes_s = 0.1
    trial.upstreams.fails = lambda tensors: ContractViolation("one by one") if len(tensors["features"]) > 1 else None
    for result in await trial.infer(trial.request(sales(1)), trial.request(sales(2))):
        assert result.timings["transform"] < 0.1
        assert result.timings["predict"] >= 0.2  # the call of the batch and its own


async def test_when_triton_does_not_answer_a_batch_is_not_retried_request_by_request() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda _: Unavailable("away")
    outcomes = await trial.send(*(trial.request(sales(value)) for value in (1, 2, 3)))
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert trial.upstreams.batches == [3]


async def test_requests_that_want_different_things_are_never_in_one_batch() -> None:
    trial = Trial(DIGITS, inline_bytes=10**9)
    image = np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)
    requests = [
        trial.request({"image": image}),
        trial.request({"image": image}, parameters=DIGITS.check_parameters({"top_k": 1})),
        trial.request({"image": image}, output_names=["label"]),
        trial.request({"image": image}, version=2),
        trial.request({"image": image, "box": np.array([[0, 0, 8, 8]], np.int32)}),
        trial.request({"image": image}),
    ]
    outcomes = await trial.send(*requests)
    assert sorted(trial.upstreams.batches) == [1, 1, 1, 1, 2]
    assert [outcome["label"].shape for outcome in outcomes] == [(1, 3), (1, 1), *[(1, 3)] * 4]
    assert list(outcomes[2]) == ["label"]


async def test_labels_are_split_by_row_too() -> None:
    trial = Trial(DIGITS)
    names = sorted(Path("examples/data").glob("*.png"))[:2]
    images = [np.array([name.read_bytes()] * rows, np.object_) for rows, name in enumerate(names, 1)]
    alone = [(await trial.send(trial.request({"image": image})))[0] for image in images]
    together = await trial.send(*(trial.request({"image": image}) for image in images))
    for one, other in zip(alone, together, strict=True):
        assert one["label"].tolist() == other["label"].tolist()


async def test_a_response_with_too_few_rows_is_an_error_for_all() -> None:
    trial = Trial()
    postprocess = trial.upstreams.postprocess

    async def short(batch: PredictedBatch, _call: Call) -> pb.ModelInferResponse:
        arrays = decode_response(await postprocess(batch, _call))
        return encode_response(pb.ModelInferResponse(), {name: array[:-1] for name, array in arrays.items()})

    trial.upstreams.postprocess = short  # type: ignore[method-assign]
    for outcome in await trial.send(trial.request(sales(1)), trial.request(sales(2))):
        assert isinstance(outcome, ContractViolation)


async def test_the_size_of_a_batch_is_a_setting() -> None:
    trial = Trial(max_batch_bytes=2 * sum(array.nbytes for array in sales(1).values()))
    await trial.send(*(trial.request(sales(value)) for value in range(1, 6)))
    assert trial.upstreams.batches == [2, 2, 1]


async def test_a_request_that_cannot_wait_for_its_model_is_refused_at_once() -> None:
    trial = Trial()
    trial.upstreams.takes_s = 0.05
    first = asyncio.ensure_future(trial.send(trial.request(sales(1))))
    await asyncio.sleep(0.01)
    unhurried = [first]
    for _ in range(30):  # batches start and end, and some request always waits
        unhurried.append(asyncio.ensure_future(trial.send(trial.request(sales(1)))))
        await asyncio.sleep(0.01)
    (refused,) = await trial.send(trial.request(sales(1), call=Call.within(0.02)))
    assert isinstance(refused, Overloaded)
    assert "the wait for model 'm' is" in str(refused)
    for (answer,) in await asyncio.gather(*unhurried):
        assert answer["total"].tolist() == [7]


@pytest.mark.parametrize("abandoned", [False, True], ids=["alone", "while Triton works on an abandoned call"])
async def test_a_request_whose_caller_leaves_releases_its_bytes_and_the_next_is_answered(abandoned: bool) -> None:
    trial = Trial()
    trial.upstreams.abandoned = abandoned
    trial.upstreams.takes_s = 60.0
    left = asyncio.ensure_future(trial.pipeline.infer(trial.request(sales(1))))
    while not trial.upstreams.batches:
        await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait({left})
    assert left.cancelled()
    assert trial.pipeline._in_flight_bytes.used_bytes == 0
    assert trial.pipeline._batcher.active_keys == int(abandoned)  # in flight for as long as Triton works
    trial.upstreams.takes_s = 0.0
    (outcome,) = await trial.send(trial.request(sales(2)))
    assert outcome["total"].tolist() == [14]


async def test_batches_of_all_versions_share_the_slots_of_their_predictor() -> None:
    trial = Trial(predictor_batches=1, batch_slot_s=60)
    trial.upstreams.takes_s = 0.01
    first = asyncio.ensure_future(trial.infer(trial.request(sales(1), version=1)))
    await asyncio.sleep(0.001)
    held = [trial.request(sales(value), version=version) for value, version in ((2, 2), (3, 3), (4, 2))]
    elsewhere = trial.request(sales(5), version=4)
    elsewhere.target = replace(elsewhere.target, predictors=("127.0.0.1:2",))
    answers = await trial.send(*held, elsewhere)
    await first
    assert [answer["total"].tolist() for answer in answers] == [[14], [21], [28], [35]]
    assert trial.upstreams.batches[:2] == [1, 1]  # the first, and the one of the other predictor
    assert sorted(trial.upstreams.batches[2:]) == [1, 2]  # version 3, and both requests of version 2


async def test_a_slot_is_free_again_also_if_the_placement_has_changed_meanwhile() -> None:
    trial = Trial(predictor_batches=1, batch_slot_s=60)
    trial.upstreams.takes_s = 0.01
    first, moved, last = (trial.request(sales(value), version=version) for value, version in ((1, 1), (2, 1), (3, 2)))
    moved.target = replace(moved.target, predictors=("127.0.0.1:2",))
    before = asyncio.ensure_future(trial.infer(first))
    await asyncio.sleep(0.001)
    await trial.send(moved)
    await before
    assert trial.pipeline._slots_of[last.target.predictors].is_idle
    await trial.send(last)


@pytest.mark.parametrize("batches", [0, 4])
async def test_placements_that_are_gone_leave_little_behind(batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.pipeline.MAX_PLACEMENTS", 3)
    trial = Trial(predictor_batches=batches)
    for number in range(20):
        request = trial.request(sales(1))
        request.target = replace(request.target, predictors=(f"127.0.0.1:{number}",))
        await trial.send(request)
    assert len(trial.pipeline._limits_of) <= 3
    assert len(trial.pipeline._slots_of) <= 3


async def test_a_version_that_is_not_loaded_waits_for_no_slot() -> None:
    trial = Trial(predictor_batches=1, batch_slot_s=60)
    trial.upstreams.takes_s = 0.01
    cold = [trial.request(sales(1), version=version) for version in (1, 2)]
    for request in cold:
        request.target = replace(request.target, predictors=())
    waiting = [asyncio.ensure_future(trial.infer(request)) for request in cold]
    await asyncio.sleep(0.001)
    assert trial.upstreams.batches == [1, 1]
    await asyncio.gather(*waiting)
