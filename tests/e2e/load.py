"""Constant load with an account of every request."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.e2e.kubectl import wait_for
from tests.e2e.release import Endpoint
from tests.integration.conftest import INFER, Caller
from triptych.datatypes import Array
from triptych.protocol.tensors import decode_response

DEADLINE_S = 15.0


@dataclass(frozen=True)
class CheckedRequest:
    """A request with its right answer."""

    request: bytes
    model: str
    right: dict[str, Array]

    @classmethod
    def of(cls, caller: Caller, request: pb.ModelInferRequest) -> CheckedRequest:
        """Record the answer of an undisturbed stack as the right one."""
        answer = caller.infer(request, timeout_s=60)
        return cls(request.SerializeToString(), answer.model_name, decode_response(answer))

    def is_answered_by(self, response: pb.ModelInferResponse) -> bool:
        """Whether the answer is right; batches of other sizes may change the last bits of floats."""
        outputs = decode_response(response)
        if response.model_name != self.model or outputs.keys() != self.right.keys():
            return False
        return all(_same(array, self.right[name]) for name, array in outputs.items())


class Load:
    """Sends `per_second` requests/s during the block, in turns over one connection per endpoint.

    The clients are plain: a deadline, and no retries.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], requests: Sequence[CheckedRequest], per_second: float = 60
    ) -> None:
        self.sent = 0
        self.answered = 0
        self.wrong: list[str] = []
        self.lost: Counter[str] = Counter()
        self.lost_at_s: list[float] = []  # since the start of the load
        self.slowest_s = 0.0
        self._channels = [(endpoint, endpoint.channel()) for endpoint in endpoints]
        self._requests, self._pause_s = requests, 1 / per_second
        self._some = int(2 * per_second)
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._send)
        self._began_s = 0.0

    def __enter__(self) -> Load:
        self._began_s = time.monotonic()
        self._thread.start()
        self.wait_for_answers(self._some)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.wait_for_answers(self._some)  # sent after the last disturbance
        self._stop.set()
        self._thread.join()
        wait_for(lambda: self._settled() == self.sent, "every request has ended", 2 * DEADLINE_S)
        for _, channel in self._channels:
            channel.close()

    @property
    def account(self) -> str:
        lost = ", ".join(f"{count} x {text}" for text, count in self.lost.items())
        return (
            f"{self.sent} sent, {self.answered} right, {len(self.wrong)} wrong, {self.lost.total()} lost"
            f" ({lost or 'none'}), slowest {self.slowest_s:.2f} s"
        )

    def wait_for_answers(self, more: int) -> None:
        """Wait until `more` further requests have ended, at least one of them answered."""
        ended, answered = self._settled() + more, self.answered
        wait_for(lambda: self._settled() >= ended and self.answered > answered, f"{more} more answers", 60)

    def assert_nothing_was_lost(self) -> None:
        assert self.sent == self.answered, f"{self.account}; lost at {self.lost_at_s[:20]} s; wrong: {self.wrong[:3]}"

    def _settled(self) -> int:
        with self._lock:
            return self.answered + len(self.wrong) + self.lost.total()

    def _send(self) -> None:
        calls = [(server, channel.unary_unary(INFER)) for server, channel in self._channels]
        turns = zip(itertools.cycle(calls), itertools.cycle(self._requests), strict=False)
        due_s = time.monotonic()
        while not self._stop.is_set():
            (server, call), checked = next(turns)
            self.sent += 1
            sent_s = time.monotonic()
            future = call.future(checked.request, timeout=DEADLINE_S)
            future.add_done_callback(partial(self._ended, server, checked, sent_s))
            due_s += self._pause_s
            self._stop.wait(max(0.0, due_s - time.monotonic()))

    def _ended(self, server: Endpoint, checked: CheckedRequest, sent_s: float, future: Any) -> None:
        error = future.exception()
        response = None if error else pb.ModelInferResponse.FromString(future.result())
        with self._lock:
            self.slowest_s = max(self.slowest_s, time.monotonic() - sent_s)
            if response is None:
                what = f"{server.name} {error.code().name}: {error.details()}"
                self.lost[what] += 1
                self.lost_at_s.append(round(time.monotonic() - self._began_s, 1))
            elif checked.is_answered_by(response):
                self.answered += 1
            else:
                self.wrong.append(f"{checked.model}: {decode_response(response)}"[:500])


def _same(one: Array, other: Array) -> bool:
    if one.dtype.kind == "f":
        return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-4, atol=1e-5))
    return np.array_equal(one, other)
