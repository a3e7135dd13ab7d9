"""Following a job: the answers of its parts, across broken connections and restarts of the service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Final

from triptych.protocol import jobs_pb2 as jp
from triptych_client.errors import RequestFailed
from triptych_client.jobs.calls import JobCalls, ReplyStream
from triptych_client.jobs.entities import PartAnswers
from triptych_client.jobs.errors import JobFailed
from triptych_client.retries import Backoff

CALL_S: Final = 600.0  # of one call, so that a connection that has died unseen is noticed
STABLE_S: Final = 10.0  # a call that has lasted so long is no failed try


class Following:
    """Follows one job. `close` ends the iteration, from any thread."""

    def __init__(self, calls: JobCalls, name: str, position: int, *, in_order: bool, retry_s: float) -> None:
        self._calls, self._name, self._position, self._in_order = calls, name, position, in_order
        self._stopped = threading.Event()
        self._backoff = Backoff(retry_s, self._stopped)
        self._stream: ReplyStream | None = None

    def __iter__(self) -> Iterator[PartAnswers]:
        """The answers of each part behind the position, until the job has succeeded.

        Raises `JobFailed`, and `RequestFailed` once the service was away for `retry_s`.
        """
        while True:
            began_s = time.monotonic()
            try:
                yield from self._one_call()
                return
            except RequestFailed as error:
                if self._stopped.is_set():
                    raise
                if time.monotonic() - began_s > STABLE_S:
                    self._backoff.reset()
                if error.code != "DEADLINE_EXCEEDED" or time.monotonic() - began_s < CALL_S / 2:
                    self._backoff.wait(error)

    def close(self) -> None:
        """End the iteration with `RequestFailed`."""
        self._stopped.set()
        if self._stream is not None:
            self._stream.cancel()

    def _one_call(self) -> Iterator[PartAnswers]:
        request = jp.FollowRequest(name=self._name, position=self._position, in_order=self._in_order)
        self._stream = stream = self._calls.stream("Follow", request, CALL_S)
        if self._stopped.is_set():  # `close` came before there was a stream
            stream.cancel()
        content: list[bytes] = []
        try:
            for reply in stream:
                if reply.state:
                    if reply.state != "succeeded":
                        raise JobFailed(self._name, reply.state, reply.error)
                    return
                content.append(reply.content)
                if not reply.more:
                    self._backoff.reset()
                    self._position = reply.position
                    yield PartAnswers(
                        part=reply.part,
                        position=reply.position,
                        rows=reply.rows,
                        bad_rows=reply.bad_rows,
                        content=b"".join(content),
                        summary=json.loads(reply.summary_json or "{}"),
                    )
                    content = []
        finally:
            stream.cancel()
        raise RequestFailed("UNAVAILABLE", f"{self._calls.address}: the stream of {self._name} ended before the job")
