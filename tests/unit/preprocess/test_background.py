"""Background requests are answered from what others leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from preprocess.inference import InferenceRequest, InferenceResult
from tests.unit.preprocess.pipeline_trial import DIGITS, Trial, sales
from tests.unit.preprocess.test_preparation import watched
from triptych.errors import DeadlineExceeded, Overloaded
from triptych.protocol.call import Call


def begin(trial: Trial, *requests: InferenceRequest) -> list[asyncio.Task[InferenceResult]]:
    return [asyncio.ensure_future(trial.pipeline.infer(request)) for request in requests]


def size_of(trial: Trial) -> int:
    return trial.request(sales(1)).size_bytes


async def until(executed: Sequence[InferenceRequest], count: int) -> None:
    while len(executed) < count:
        await asyncio.sleep(0.001)


def names(executed: Sequence[InferenceRequest]) -> list[str]:
    return [request.id for request in executed]


async def test_they_are_in_no_batch_with_others_and_give_the_same_answers() -> None:
    trial = Trial()
    online, background = await trial.send(*(trial.request(sales(1), is_background=flag) for flag in (False, True)))
    assert trial.upstreams.batches == [1, 1]
    assert online["units"].tolist() == background["units"].tolist()


async def test_one_batch_of_them_is_in_flight_and_that_of_others_beside_it() -> None:
    trial = Trial()
    executed, trial.upstreams.go = watched(trial), asyncio.Event()
    first = begin(trial, trial.request(sales(1), "first", is_background=True))
    await until(executed, 1)
    more = begin(trial, *(trial.request(sales(n), f"more {n}", is_background=True, version=n) for n in (1, 2)))
    online = begin(trial, trial.request(sales(9), "online"))
    await until(executed, 2)
    await asyncio.sleep(0.05)
    assert names(executed) == ["first", "online"]
    trial.upstreams.go.set()
    await asyncio.gather(*first, *online, *more)
    assert sorted(names(executed)[2:]) == ["more 1", "more 2"]


async def test_none_starts_while_another_request_waits() -> None:
    trial = Trial(batch_max_wait_s=60)
    executed, trial.upstreams.go = watched(trial), asyncio.Event()
    running = begin(trial, trial.request(sales(1), "running"))
    await until(executed, 1)
    waiting = begin(trial, trial.request(sales(2), "waiting"))
    await asyncio.sleep(0)
    background = begin(trial, trial.request(sales(3), "background", is_background=True))
    await asyncio.sleep(0.02)
    assert names(executed) == ["running"]
    trial.upstreams.go.set()
    await asyncio.gather(*running, *waiting, *background)
    assert names(executed)[:2] == ["running", "waiting"]


async def test_large_ones_are_prepared_only_with_an_idle_thread_within_their_deadline() -> None:
    trial = Trial(DIGITS)
    large = {"image": np.array([b"x" * 20_000], np.object_)}
    release, thread_pool = threading.Event(), trial.pipeline._transform._work._thread_pool
    busy = asyncio.ensure_future(thread_pool.run(lambda: release.wait(60), 1))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="was not prepared within the time of the call"):
        await trial.pipeline.infer(trial.request(large, is_background=True, call=Call.within(0.1)))
    release.set()
    await busy


async def test_they_are_refused_while_others_are_admitted() -> None:
    size = size_of(Trial())
    trial = Trial(max_bytes_in_flight=4 * size)
    trial.upstreams.takes_s = 0.05
    requests = [trial.request(sales(n), is_background=True) for n in range(3)]
    requests += [trial.request(sales(n)) for n in range(2)]
    outcomes = await trial.send(*requests)
    assert [type(outcome) for outcome in outcomes] == [dict, dict, Overloaded, dict, dict]
