"""Load by many callers, and polling for a state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tests.integration.conftest import Caller
from tests.integration.messages import outputs_of


def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Poll until a condition holds; fail after the timeout."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.05)


def answers(caller: Caller, request: pb.ModelInferRequest) -> bool:
    """Whether the request is answered now."""
    try:
        caller.infer(request)
    except grpc.RpcError:
        return False
    return True


class Load:
    """Callers that repeat one request until the block ends, and record `answers` and `refusals`.

    `persistent` callers continue after a refusal; the others stop.
    """

    def __init__(
        self, caller: Caller, request: pb.ModelInferRequest, persistent: bool = True, callers: int = 8
    ) -> None:
        self.answers: list[dict[str, Any]] = []
        self.refusals: list[tuple[grpc.StatusCode, str]] = []
        self._caller, self._request, self._persistent = caller, request, persistent
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(callers)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_answers(100)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self.join()

    def wait_for_answers(self, more: int) -> None:
        """Wait for `more` further answers."""
        wanted = len(self.answers) + more
        until(lambda: len(self.answers) >= wanted)

    def join(self) -> None:
        """Wait until every caller has stopped."""
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a caller got neither an answer nor a refusal"

    def _send(self) -> None:
        while not self._stop.is_set():
            try:
                self.answers.append(outputs_of(self._caller.infer(self._request)))
            except grpc.RpcError as raised:
                error: Any = raised
                self.refusals.append((error.code(), error.details()))
                if not self._persistent:
                    return
