"""Requests that travel together: each gets its own rows, or its own error. Triton and postprocess are scripted here;
tests/integration/test_batching.py sends the same through the real ones."""

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

from preprocess.catalog import Target
from preprocess.pipeline import Chain, Member
from preprocess.settings import Settings
from preprocess.transform import Transform
from triptych.contract import Plan, load_contract
from triptych.contract.steps import images
from triptych.contract.steps.image_files.decoding import header_of
from triptych.contract.steps.image_files.formats import Format, Header
from triptych.datatypes import Array
from triptych.errors import ContractViolation, DeadlineExceeded, InvalidInput, InvalidRequest, Overloaded, Unavailable
from triptych.postprocessing import Predicted
from triptych.protocol.call import Call
from triptych.protocol.tensors import Tensors, decode_response, encode_request, encode_response, request_tensors
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MODELS = Path("model-repository")
SALES, DIGITS = (Plan(load_contract(MODELS / name / "1/contract.yaml")) for name in ("sales_forecast_de", "digits_de"))


class Scripted:
    """Triton that answers with what it got, and postprocess that does its work."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.groups: list[int] = []
        self.takes_s = 0.0
        self.abandoned = False
        self.fails: Callable[[Mapping[str, Array]], Exception | None] = lambda _: None

    def has_abandoned(self, _target: Target) -> bool:
        return self.abandoned

    async def predict(self, _target: Target, tensors: Mapping[str, Array], _call: Call) -> pb.ModelInferResponse:
        (features,) = tensors.values()
        self.groups.append(len(features))
        await asyncio.sleep(self.takes_s)
        if error := self.fails(tensors):
            raise error
        (output,) = self.plan.contract.model.outputs
        flat = features.reshape(len(features), -1)[:, : output.shape[1]]
        return encode_response(pb.ModelInferResponse(), {output.name: np.ascontiguousarray(flat, np.float32)})

    async def finish(self, batch: Predicted, _call: Call) -> pb.ModelInferResponse:
        outputs = self.plan.postprocess(batch.outputs, batch.parameters)
        answer = pb.ModelInferResponse(model_name=batch.model, model_version=batch.version)
        return encode_response(answer, {name: outputs[name] for name in batch.wanted})


class Trial:
    def __init__(self, plan: Plan = SALES, **settings: Any) -> None:
        self.plan, self.upstreams = plan, Scripted(plan)
        own = Settings(**settings)
        transform = Transform(ThreadPool(1, own.inline_bytes))
        upstreams: Any = self.upstreams
        finish: Any = lambda batch, call: self.upstreams.finish(batch, call)  # noqa: E731 - tests script it later
        self.chain = Chain(own, StageMetrics("preprocess", Tracing()), transform, upstreams, finish)

    def member(self, tensors: Mapping[str, Array], id: str = "", **changes: Any) -> Member:
        target = Target("f", "m", changes.pop("version", 1), 100, ("127.0.0.1:1",))
        fields: dict[str, Any] = {"parameters": self.plan.check_parameters({}), "wanted": self.plan.outputs}
        return Member(
            id, target, self.plan, changes.pop("call", Call.within(20)), sent(tensors), **{**fields, **changes}
        )

    async def send(self, *members: Member) -> list[Any]:
        """Answers as dicts of arrays, or errors."""
        outcomes = await asyncio.gather(*map(self.chain, members), return_exceptions=True)
        return [outcome if isinstance(outcome, BaseException) else decode_response(outcome) for outcome in outcomes]


def sent(tensors: Mapping[str, Array]) -> Tensors:
    return request_tensors(encode_request(pb.ModelInferRequest(), tensors))


def sales(first: float, rows: int = 1) -> dict[str, Array]:
    """The model that is scripted answers with the first seven days."""
    history = np.full((rows, 28), first, np.float32) + np.arange(rows, dtype=np.float32)[:, None]
    return {"history": history, "price": np.ones((rows, 7), np.float32), "promotion": np.zeros((rows, 7), np.bool_)}


async def test_requests_go_together_and_each_gets_its_rows_and_its_id() -> None:
    trial = Trial()
    members = [trial.member(sales(100 * n, rows=n), id=f"id-{n}") for n in (1, 2, 3)]
    answers = await asyncio.gather(*map(trial.chain, members))
    assert trial.upstreams.groups == [6]
    for n, answer in zip((1, 2, 3), answers, strict=True):
        assert (answer.id, answer.model_name, answer.model_version) == (f"id-{n}", "m", "1")
        assert "triptych_preprocess_revision" in answer.parameters
        got = decode_response(answer)
        assert got["units"].tolist() == [[100 * n + row] * 7 for row in range(n)]
        assert got["total"].tolist() == [7 * (100 * n + row) for row in range(n)]
    assert all({"queue", "transform", "predict", "postprocess"} == set(member.parts) for member in members)


async def test_requests_over_the_limit_of_bytes_are_refused_until_there_is_room_again() -> None:
    size = sent(sales(1)).size_bytes
    trial = Trial(max_bytes_in_flight=2 * size)
    outcomes = await trial.send(*(trial.member(sales(n)) for n in range(3)))
    assert [type(outcome) for outcome in outcomes] == [dict, dict, Overloaded]
    assert f"{2 * size} bytes of requests are in hand here, and {size} more" in str(outcomes[2])
    trial.upstreams.fails = lambda _: Unavailable("gone")
    assert [type(outcome) for outcome in await trial.send(trial.member(sales(3)))] == [Unavailable]
    trial.upstreams.fails = lambda _: None
    assert [type(outcome) for outcome in await trial.send(*(trial.member(sales(n)) for n in (4, 5)))] == [dict] * 2


async def test_a_request_over_the_limit_of_bytes_is_answered_when_it_is_alone() -> None:
    (outcome,) = await (trial := Trial(max_bytes_in_flight=1)).send(trial.member(sales(1)))
    assert outcome["total"].tolist() == [7]


async def test_what_a_request_was_prepared_to_takes_room_too() -> None:
    trial = Trial(max_bytes_in_flight=100_000, inline_bytes=0)
    trial.upstreams.takes_s = 0.2
    first = asyncio.ensure_future(trial.chain(member := trial.member(sales(1))))
    while not trial.upstreams.groups:
        await asyncio.sleep(0.001)
    assert member.prepared is not None
    assert member.held_bytes == member.sent.size_bytes + member.prepared["features"].nbytes
    await first
    assert trial.chain._in_flight_bytes.taken_bytes == 0


async def test_a_member_that_the_contract_refuses_has_its_error_and_the_others_are_answered_together() -> None:
    trial = Trial()
    bad = sales(1, rows=2)
    bad["price"][1, 3] = -1
    outcomes = await trial.send(*(trial.member(each) for each in (sales(10), bad, sales(20))))
    assert isinstance(outcomes[1], InvalidInput)
    assert "row 1" in str(outcomes[1])
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[70], [140]]
    assert trial.upstreams.groups == [2]


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
async def test_what_has_another_form_joins_nobody(wrong: dict[str, Array]) -> None:
    trial = Trial()
    outcomes = await trial.send(trial.member(sales(1)), trial.member(wrong), trial.member(sales(2)))
    assert isinstance(outcomes[1], InvalidRequest)
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[7], [14]]
    assert trial.upstreams.groups == [2]


async def test_when_the_model_cannot_take_a_group_each_member_is_tried_alone() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda tensors: ContractViolation("no 13") if (tensors["features"] == 13).any() else None
    outcomes = await trial.send(*(trial.member(sales(value)) for value in (1, 13, 2)))
    assert isinstance(outcomes[1], ContractViolation)
    assert [outcomes[at]["total"].tolist() for at in (0, 2)] == [[7], [14]]
    assert trial.upstreams.groups == [3, 1, 1, 1]


async def test_when_triton_is_away_a_group_is_not_sent_again_member_by_member() -> None:
    trial = Trial()
    trial.upstreams.fails = lambda _: Unavailable("away")
    outcomes = await trial.send(*(trial.member(sales(value)) for value in (1, 2, 3)))
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert trial.upstreams.groups == [3]


async def test_requests_that_want_different_things_never_meet() -> None:
    trial = Trial(DIGITS, inline_bytes=10**9)
    image = np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)
    members = [
        trial.member({"image": image}),
        trial.member({"image": image}, parameters=DIGITS.check_parameters({"top_k": 1})),
        trial.member({"image": image}, wanted=["label"]),
        trial.member({"image": image}, version=2),
        trial.member({"image": image, "box": np.array([[0, 0, 8, 8]], np.int32)}),
        trial.member({"image": image}),
    ]
    outcomes = await trial.send(*members)
    assert sorted(trial.upstreams.groups) == [1, 1, 1, 1, 2]
    assert [outcome["label"].shape for outcome in outcomes] == [(1, 3), (1, 1), *[(1, 3)] * 4]
    assert list(outcomes[2]) == ["label"]


async def test_words_are_handed_out_by_row_too() -> None:
    trial = Trial(DIGITS)
    names = sorted(Path("examples/data").glob("*.png"))[:2]
    images = [np.array([name.read_bytes()] * rows, np.object_) for rows, name in enumerate(names, 1)]
    alone = [(await trial.send(trial.member({"image": image})))[0] for image in images]
    together = await trial.send(*(trial.member({"image": image}) for image in images))
    for one, other in zip(alone, together, strict=True):
        assert one["label"].tolist() == other["label"].tolist()


async def test_large_requests_are_prepared_before_they_join_a_group() -> None:
    trial = Trial(inline_bytes=1)
    members = [trial.member(sales(value)) for value in (1, 2)]
    outcomes = await trial.send(*members)
    assert [outcome["total"].tolist() for outcome in outcomes] == [[7], [14]]
    assert all(list(member.prepared or {}) == ["features"] for member in members)


async def test_a_small_file_of_many_pixels_is_a_large_request() -> None:
    """Unpacked on the event loop it would keep everybody waiting."""
    plain = cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()
    assert len(plain) < Settings().inline_bytes
    small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    trial = Trial(DIGITS)
    members = [trial.member({"image": np.array([data], np.object_)}) for data in (plain, small)]
    await trial.send(*members)
    assert [member.prepared is not None for member in members] == [True, False]


async def test_a_request_whose_time_is_over_leaves_its_thread_after_the_picture_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twelve abandoned requests of 64 pictures kept a good one waiting for 5 s (2026-11-27)."""
    decoded: list[int] = []
    release = threading.Event()

    def slow(data: bytes, kind: Format, header: Header) -> Array:
        decoded.append(len(data))
        assert release.wait(60)
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(images, "decode", slow)
    file = cv2.imencode(".png", np.zeros((1000, 1000, 3), np.uint8))[1].tobytes()
    trial = Trial(DIGITS)
    hurried = trial.member({"image": np.array([file] * 60, np.object_)}, call=Call.within(0.2))
    with pytest.raises(DeadlineExceeded):
        await trial.chain(hurried)
    release.set()
    (outcome,) = await trial.send(trial.member({"image": np.array([file] * 2, np.object_)}))
    assert isinstance(outcome, dict)
    assert len(decoded) <= 1 + 2  # on a busy machine not even the first was begun


async def test_a_large_file_is_not_looked_into_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 MB of empty JPEG segments took the reader of headers 2 s (2026-11-22)."""
    threads: list[str] = []

    def watched(data: bytes, kind: Format) -> Header:
        threads.append(threading.current_thread().name)
        return header_of(data, kind)

    monkeypatch.setattr(images, "header_of", watched)
    file = Path("examples/data/seven_640x480.jpg").read_bytes()
    assert len(file) > Settings().inline_bytes
    trial = Trial(DIGITS)
    await trial.send(trial.member({"image": np.array([file], np.object_)}))
    assert [name.startswith("worker") for name in threads] == [True]


async def test_large_requests_wait_for_others_in_preparation() -> None:
    trial = Trial(DIGITS, inline_bytes=0, batch_patience=1000.0)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    outcomes = await trial.send(*(trial.member(picture) for _ in range(6)))
    assert all(len(outcome["label"]) == 1 for outcome in outcomes)
    assert trial.upstreams.groups == [6]


@pytest.mark.parametrize("patience", [0.0, 1e9], ids=["none", "more than there is time"])
async def test_one_in_preparation_holds_up_nobody_for_too_long(patience: float) -> None:
    trial = Trial(DIGITS, inline_bytes=0, batch_patience=patience)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    trial.chain._preparing["m", 1] += 1  # one that never ends
    assert len((await trial.send(trial.member(picture, call=Call.within(1))))[0]["label"]) == 1


async def test_an_answer_with_too_few_rows_is_nobodys() -> None:
    trial = Trial()
    finish = trial.upstreams.finish

    async def short(batch: Predicted, _call: Call) -> pb.ModelInferResponse:
        arrays = decode_response(await finish(batch, _call))
        return encode_response(pb.ModelInferResponse(), {name: array[:-1] for name, array in arrays.items()})

    trial.upstreams.finish = short  # type: ignore[method-assign]
    for outcome in await trial.send(trial.member(sales(1)), trial.member(sales(2))):
        assert isinstance(outcome, ContractViolation)


async def test_the_size_of_a_group_is_a_setting() -> None:
    trial = Trial(batch_bytes=2 * sum(array.nbytes for array in sales(1).values()))
    await trial.send(*(trial.member(sales(value)) for value in range(1, 6)))
    assert trial.upstreams.groups == [2, 2, 1]


async def test_who_could_not_wait_that_long_is_refused_at_once_and_the_others_wait() -> None:
    trial = Trial(DIGITS, inline_bytes=0)
    picture = {"image": np.array([Path("examples/data/two_board.jpg").read_bytes()], np.object_)}
    await trial.send(trial.member(picture))
    patient = [asyncio.ensure_future(trial.chain(trial.member(picture))) for _ in range(50)]
    await asyncio.sleep(0)
    hurried = trial.member(picture, call=Call.within(0.05))
    with pytest.raises(Overloaded, match="the wait for a thread that prepares it is") as refused:
        await trial.chain(hurried)
    assert refused.value.retry_after_s > 0
    assert all(decode_response(answer) for answer in await asyncio.gather(*patient))


async def test_the_wait_for_a_model_is_foreseen_too() -> None:
    trial = Trial()
    trial.upstreams.takes_s = 0.05
    first = asyncio.ensure_future(trial.send(trial.member(sales(1))))
    await asyncio.sleep(0.01)
    patient = [first]
    for _ in range(30):  # groups come and go, and something always waits
        patient.append(asyncio.ensure_future(trial.send(trial.member(sales(1)))))
        await asyncio.sleep(0.01)
    (refused,) = await trial.send(trial.member(sales(1), call=Call.within(0.02)))
    assert isinstance(refused, Overloaded)
    assert "the wait for model 'm' is" in str(refused)
    for (answer,) in await asyncio.gather(*patient):
        assert answer["total"].tolist() == [7]


@pytest.mark.parametrize("abandoned", [False, True], ids=["alone", "while Triton works for nobody"])
async def test_a_request_whose_caller_leaves_gives_its_room_back_and_the_next_is_answered(abandoned: bool) -> None:
    trial = Trial()
    trial.upstreams.abandoned = abandoned
    trial.upstreams.takes_s = 60.0
    left = asyncio.ensure_future(trial.chain(trial.member(sales(1))))
    while not trial.upstreams.groups:
        await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait({left})
    assert left.cancelled()
    assert trial.chain._in_flight_bytes.taken_bytes == 0
    assert trial.chain._batcher.kinds == int(abandoned)  # the slot is taken for as long as Triton works
    trial.upstreams.takes_s = 0.0
    (outcome,) = await trial.send(trial.member(sales(2)))
    assert outcome["total"].tolist() == [14]
