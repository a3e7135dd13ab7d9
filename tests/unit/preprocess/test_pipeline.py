"""Requests in one batch: each gets its own rows, or its own error. Triton and postprocess are scripted here.

tests/integration/test_batching.py sends the same through the real ones.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from preprocess.batch_executor import BatchExecutor
from preprocess.batching import Batch
from preprocess.catalog import Target
from preprocess.inference import InferenceRequest, InferenceResult
from preprocess.pipeline import Pipeline
from preprocess.settings import Settings
from preprocess.transform import Transform
from triptych.contract import Plan, load_contract
from triptych.contract.steps import images
from triptych.contract.steps.image_files.decoding import header_of
from triptych.contract.steps.image_files.formats import Format, ImageHeader
from triptych.datatypes import Array
from triptych.errors import ContractViolation, DeadlineExceeded, InvalidInput, InvalidRequest, Overloaded, Unavailable
from triptych.postprocessing import PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.tensors import Tensors, decode_response, encode_request, encode_response, request_tensors
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MODELS = Path("model-repository")
SALES, DIGITS = (Plan(load_contract(MODELS / name / "1/contract.yaml")) for name in ("sales_forecast_de", "digits_de"))


class Scripted:
    """A Triton that answers with its inputs, and a postprocess that does its work."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.batches: list[int] = []
        self.takes_s = 0.0
        self.abandoned = False
        self.fails: Callable[[Mapping[str, Array]], Exception | None] = lambda _: None

    def has_abandoned(self, _target: Target) -> bool:
        return self.abandoned

    async def predict(self, _target: Target, tensors: Mapping[str, Array], _call: Call) -> pb.ModelInferResponse:
        (features,) = tensors.values()
        self.batches.append(len(features))
        await asyncio.sleep(self.takes_s)
        if error := self.fails(tensors):
            raise error
        (output,) = self.plan.contract.model.outputs
        flat = features.reshape(len(features), -1)[:, : output.shape[1]]
        return encode_response(pb.ModelInferResponse(), {output.name: np.ascontiguousarray(flat, np.float32)})

    async def postprocess(self, batch: PredictedBatch, _call: Call) -> pb.ModelInferResponse:
        outputs = self.plan.postprocess(batch.outputs, batch.parameters)
        answer = pb.ModelInferResponse(model_name=batch.model, model_version=batch.version)
        return encode_response(answer, {name: outputs[name] for name in batch.output_names})


class Trial:
    def __init__(self, plan: Plan = SALES, **settings: Any) -> None:
        self.plan, self.upstreams = plan, Scripted(plan)
        own = Settings(**settings)
        transform = Transform(ThreadPool(1, own.inline_bytes))
        upstreams: Any = self.upstreams
        postprocess: Any = lambda batch, call: self.upstreams.postprocess(batch, call)  # noqa: E731 - tests script it later
        metrics = StageMetrics("preprocess", Tracing())
        executor = BatchExecutor(metrics, transform, upstreams, postprocess, own.revision)
        self.pipeline = Pipeline(own, transform, upstreams, executor)

    def request(self, tensors: Mapping[str, Array], id: str = "", **changes: Any) -> InferenceRequest:
        target = Target("f", "m", changes.pop("version", 1), 100, ("127.0.0.1:1",))
        fields: dict[str, Any] = {"parameters": self.plan.check_parameters({}), "output_names": self.plan.outputs}
        call, own = changes.pop("call", Call.within(20)), sent(tensors)
        sizes = {"rows": own.rows, "size_bytes": own.size_bytes}
        return InferenceRequest(id, target, self.plan, call, own, **{**fields, **sizes, **changes})

    async def infer(self, *requests: InferenceRequest) -> list[InferenceResult]:
        """The results of requests that come at once."""
        return list(await asyncio.gather(*map(self.pipeline.infer, requests)))

    async def send(self, *requests: InferenceRequest) -> list[Any]:
        """Answers as dicts of arrays, or errors."""
        outcomes = await asyncio.gather(*map(self.pipeline.infer, requests), return_exceptions=True)
        return [each if isinstance(each, BaseException) else decode_response(each.response) for each in outcomes]


def sent(tensors: Mapping[str, Array]) -> Tensors:
    return request_tensors(encode_request(pb.ModelInferRequest(), tensors))


def sales(first: float, rows: int = 1) -> dict[str, Array]:
    """The scripted model answers with the first seven days."""
    history = np.full((rows, 28), first, np.float32) + np.arange(rows, dtype=np.float32)[:, None]
    return {"history": history, "price": np.ones((rows, 7), np.float32), "promotion": np.zeros((rows, 7), np.bool_)}


def watched(trial: Trial) -> list[InferenceRequest]:
    """Record the requests that enter batches from now on."""
    executed: list[InferenceRequest] = []
    execute = trial.pipeline._batcher._execute

    async def watch(batch: Batch[InferenceRequest]) -> Any:
        executed.extend(batch.requests)
        return await execute(batch)

    trial.pipeline._batcher._execute = watch
    return executed


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
    assert f"{2 * size} bytes of requests are in flight here, and {size} more" in str(outcomes[2])
    trial.upstreams.fails = lambda _: Unavailable("gone")
    assert [type(outcome) for outcome in await trial.send(trial.request(sales(3)))] == [Unavailable]
    trial.upstreams.fails = lambda _: None
    assert [type(outcome) for outcome in await trial.send(*(trial.request(sales(n)) for n in (4, 5)))] == [dict] * 2


async def test_a_request_over_the_limit_of_bytes_is_answered_when_it_is_alone() -> None:
    (outcome,) = await (trial := Trial(max_bytes_in_flight=1)).send(trial.request(sales(1)))
    assert outcome["total"].tolist() == [7]


async def test_the_model_inputs_of_a_prepared_request_count_as_bytes_in_flight() -> None:
    trial = Trial(max_bytes_in_flight=100_000, inline_bytes=0)
    trial.upstreams.takes_s = 0.2
    request = trial.request(sales(1))
    first = asyncio.ensure_future(trial.pipeline.infer(request))
    while not trial.upstreams.batches:
        await asyncio.sleep(0.001)
    features = SALES.preprocess(request.tensors.arrays())["features"]
    assert trial.pipeline._in_flight_bytes.used_bytes == request.size_bytes + features.nbytes
    await first
    assert trial.pipeline._in_flight_bytes.used_bytes == 0


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


async def test_large_requests_are_prepared_before_they_join_a_batch() -> None:
    trial = Trial(inline_bytes=1)
    executed = watched(trial)
    outcomes = await trial.send(*(trial.request(sales(value)) for value in (1, 2)))
    assert [outcome["total"].tolist() for outcome in outcomes] == [[7], [14]]
    assert [list(request.model_inputs or {}) for request in executed] == [["features"]] * 2


async def test_a_small_file_of_many_pixels_is_a_large_request() -> None:
    """Unpacked in place, it would block the event loop."""
    plain = cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()
    assert len(plain) < Settings().inline_bytes
    small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    trial = Trial(DIGITS)
    executed = watched(trial)
    await trial.send(
        *(trial.request({"image": np.array([data], np.object_)}, id=data.hex()) for data in (plain, small))
    )
    assert {request.id: request.model_inputs is not None for request in executed} == {
        plain.hex(): True,
        small.hex(): False,
    }


async def test_a_request_past_its_deadline_releases_its_thread_after_the_current_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twelve abandoned requests of 64 pictures kept a good one waiting for 5 s (2026-11-27)."""
    decoded: list[int] = []
    release = threading.Event()

    def slow(data: bytes, kind: Format, header: ImageHeader) -> Array:
        decoded.append(len(data))
        assert release.wait(60)
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(images, "decode", slow)
    file = cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()
    trial = Trial(DIGITS)
    hurried = trial.request({"image": np.array([file] * 60, np.object_)}, call=Call.within(0.2))
    with pytest.raises(DeadlineExceeded):
        await trial.pipeline.infer(hurried)
    release.set()
    (outcome,) = await trial.send(trial.request({"image": np.array([file] * 2, np.object_)}))
    assert isinstance(outcome, dict)
    assert len(decoded) <= 1 + 2  # on a busy machine not even the first was begun


async def test_the_header_of_a_large_file_is_not_read_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of headers took 2 s for 10 MB of empty JPEG segments (2026-11-22)."""
    threads: list[str] = []

    def recorded(data: bytes, kind: Format) -> ImageHeader:
        threads.append(threading.current_thread().name)
        return header_of(data, kind)

    monkeypatch.setattr(images, "header_of", recorded)
    file = Path("examples/data/seven_640x480.jpg").read_bytes()
    assert len(file) > Settings().inline_bytes
    trial = Trial(DIGITS)
    await trial.send(trial.request({"image": np.array([file], np.object_)}))
    assert [name.startswith("worker") for name in threads] == [True]


async def test_large_requests_wait_for_others_in_preparation() -> None:
    trial = Trial(DIGITS, inline_bytes=0, batch_linger_share=1000.0)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    outcomes = await trial.send(*(trial.request(picture) for _ in range(6)))
    assert all(len(outcome["label"]) == 1 for outcome in outcomes)
    assert trial.upstreams.batches == [6]


@pytest.mark.parametrize("linger_share", [0.0, 1e9], ids=["none", "more than there is time"])
async def test_a_request_in_preparation_delays_others_for_no_longer_than_the_limit(linger_share: float) -> None:
    trial = Trial(DIGITS, inline_bytes=0, batch_linger_share=linger_share)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    trial.pipeline._preparing["m", 1] += 1  # one that never ends
    assert len((await trial.send(trial.request(picture, call=Call.within(1))))[0]["label"]) == 1


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


async def test_a_request_that_cannot_wait_for_a_thread_is_refused_at_once_and_others_wait() -> None:
    trial = Trial(DIGITS, inline_bytes=0)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    await trial.send(trial.request(picture))
    unhurried = [asyncio.ensure_future(trial.pipeline.infer(trial.request(picture))) for _ in range(50)]
    await asyncio.sleep(0)
    hurried = trial.request(picture, call=Call.within(0.05))
    with pytest.raises(Overloaded, match="the wait for a thread that prepares it is") as refused:
        await trial.pipeline.infer(hurried)
    assert refused.value.retry_after_s > 0
    assert all(decode_response(result.response) for result in await asyncio.gather(*unhurried))


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
