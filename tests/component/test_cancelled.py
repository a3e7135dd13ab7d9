"""Cancelled calls: counted as such, not logged, and leaving nothing behind."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.endpoints import free_endpoints
from tests.e2e.kubectl import wait_for
from tests.fakes.scripted.process import ScriptedStage, request, scripted
from tests.metric_samples import samples_by_label
from triptych.server import SERVERS

NOT_ANSWERED = {"CANCELLED", "DEADLINE_EXCEEDED"}
STREAMED = 40  # more than are worked on at once


@dataclass(frozen=True)
class Watched:
    """A stage with its counters and its log."""

    stage: ScriptedStage
    metrics_port: int

    def series(self, name: str, label: str) -> Counter[str]:
        return samples_by_label(f"http://127.0.0.1:{self.metrics_port}/metrics", name, label)

    def codes(self) -> Counter[str]:
        return self.series("triptych_requests_total", "code")

    def until_counted(self, before: Counter[str], count: int) -> Counter[str]:
        """The codes of `count` requests that came after `before`."""
        wait_for(lambda: (self.codes() - before).total() >= count, f"{count} requests are counted")
        return self.codes() - before

    def is_idle(self) -> bool:
        return self.series("triptych_in_flight", "stage").total() == 0

    def assert_nothing_stays(self) -> None:
        wait_for(self.is_idle, "nothing is in flight")
        log = self.stage.part.log.read_text()
        assert '"ERROR"' not in log
        assert "Traceback" not in log


@pytest.fixture(params=sorted(SERVERS))
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    port = free_endpoints()["preprocess"].metrics_port
    with scripted(request.param, tmp_path, metrics_port=port) as stage:
        stage.infer()
        yield Watched(stage, port)


@pytest.mark.parametrize("how", ["cancels", "has no time left", "closes its connection"])
def test_a_request_whose_caller_leaves_is_counted_as_not_answered(watched: Watched, how: str) -> None:
    before, held = watched.codes(), watched.stage.seen()["held"]
    with grpc.insecure_channel(watched.stage.part.address) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelInfer.future(request("hold"), timeout=0.3 if how == "has no time left" else 60)
        watched.stage.until("held", held + 1)
        if how == "cancels":
            call.cancel()
        elif how == "closes its connection":
            channel.close()
        assert watched.until_counted(before, 1).keys() <= NOT_ANSWERED
    watched.assert_nothing_stays()


def test_an_answer_that_comes_too_late_to_be_written_is_not_counted_as_one(watched: Watched) -> None:
    """The answer may be ready before the server notices that the caller has left."""
    before = watched.codes()
    for _ in range(50):
        call = watched.stage.oip.ModelInfer.future(request("sleep", seconds="0.05"), timeout=60)
        watched.stage.seen()  # sent on the same connection, so the call has begun
        call.cancel()
    codes = watched.until_counted(before, 50)
    assert codes["CANCELLED"] == codes.total() == 50
    watched.assert_nothing_stays()


def test_a_stream_of_more_than_its_window_ends_with_its_caller(watched: Watched) -> None:
    before, over = watched.codes(), threading.Event()

    def requests() -> Iterator[pb.ModelInferRequest]:
        for _ in range(STREAMED):
            yield request("hold")
        over.wait(60)

    held = watched.stage.seen()["held"]
    stream = watched.stage.oip.ModelStreamInfer(requests(), timeout=60)
    watched.stage.until("held", held + 16)
    stream.cancel()
    over.set()
    watched.assert_nothing_stays()
    codes = watched.until_counted(before, 16)
    assert codes.keys() == {"CANCELLED"}
    assert codes.total() <= 17


def test_answers_of_a_stream_that_nobody_reads_are_not_counted_as_answers(watched: Watched) -> None:
    before, held = watched.codes(), watched.stage.seen()["held"]
    sent = [request("echo"), request("hold"), *[request("large", bytes="100000")] * 10, request("hold")]
    answers = watched.stage.oip.ModelStreamInfer(iter(sent), timeout=60)
    assert next(answers).infer_response.model_name == "echo"
    watched.stage.until("held", held + 2)
    answers.cancel()
    assert watched.until_counted(before, 13) == {"OK": 1, "CANCELLED": 12}
    watched.assert_nothing_stays()


def test_calls_that_are_cancelled_at_any_moment_leave_nothing(watched: Watched) -> None:
    moments = random.Random(13)
    waiting = []
    for number in range(300):
        one = [request("sleep", seconds="0.01"), request("large", bytes="1000000"), request()][number % 3]
        one.raw_input_contents.append(bytes(moments.choice((10, 200_000))))
        infer = watched.stage.oip.ModelInfer.future
        if number % 4 == 3:
            infer = lambda sent, timeout: watched.stage.oip.ModelStreamInfer(iter([sent] * 20), timeout=timeout)  # noqa: E731
        if number % 2:
            waiting.append(infer(one, timeout=moments.uniform(0.001, 0.03)))
        else:
            waiting.append(call := infer(one, timeout=60))
            time.sleep(moments.uniform(0, 0.02))
            call.cancel()
    for call in waiting:
        call.cancel()
    watched.assert_nothing_stays()
    assert watched.codes().keys() <= {"OK", *NOT_ANSWERED}
    assert watched.stage.infer().id == "1"
