"""Preparation of large requests: on a thread, before they join a batch, and within the caller's deadline."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from preprocess.batching import Batch
from preprocess.inference import InferenceRequest
from preprocess.settings import Settings
from tests.unit.preprocess.pipeline_trial import DIGITS, SALES, Trial, sales
from triptych.contract.steps.image_files.decoding import header_of
from triptych.contract.steps.image_files.formats import Format, ImageHeader
from triptych.contract.steps.pictures import decode_image
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, Overloaded
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response


def watched(trial: Trial) -> list[InferenceRequest]:
    """Record the requests that enter batches from now on."""
    executed: list[InferenceRequest] = []
    execute = trial.pipeline._batcher._execute

    async def watch(batch: Batch[InferenceRequest]) -> Any:
        executed.extend(batch.requests)
        return await execute(batch)

    trial.pipeline._batcher._execute = watch
    return executed


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

    monkeypatch.setattr(decode_image, "decode", slow)
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

    monkeypatch.setattr(decode_image, "header_of", recorded)
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
    trial.pipeline._preparing["m", 1, False] += 1  # one that never ends
    assert len((await trial.send(trial.request(picture, call=Call.within(1))))[0]["label"]) == 1


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
