"""Retries of one request: after the server's hint, or with exponential backoff; both with jitter."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from triptych_client.errors import RequestFailed

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 5.0

T = TypeVar("T")


class Backoff:
    """Waits between the tries of one piece of work, for a limited time. `reset` begins anew, after progress."""

    def __init__(self, limit_s: float, stopped: threading.Event | None = None) -> None:
        """`limit_s` is the time from the first try to the start of the last; 0: one try.

        Once `stopped` is set, nothing is tried again.
        """
        self._limit_s, self._stopped = limit_s, stopped or threading.Event()
        self.reset()

    def reset(self) -> None:
        """Count tries and time from now on."""
        self._started_s, self._tries, self._backoff_s = time.monotonic(), 0, FIRST_BACKOFF_S

    def wait(self, error: RequestFailed) -> None:
        """Wait before the next try. Raises the error if it is not transient, or still there at the limit."""
        self._tries += 1
        if not error.is_transient:
            raise error
        hint_s = error.retry_after_s
        wait_s = hint_s * random.uniform(1.0, 1.5) if hint_s else self._backoff_s * random.uniform(0.5, 1.5)
        passed_s = time.monotonic() - self._started_s
        if passed_s + wait_s > self._limit_s or self._stopped.wait(wait_s):
            text = f"{error.text} (given up after {self._tries} tries in {passed_s:.1f} s)"
            raise RequestFailed(
                error.code, text, error.retry_after_s, is_of_connection=error.is_of_connection
            ) from error
        self._backoff_s = min(2 * self._backoff_s, MAX_BACKOFF_S)


class Retries:
    """Repeats a request that fails, for a limited time."""

    def __init__(self, limit_s: float) -> None:
        """`limit_s` is the time from the first try to the start of the last; 0: one try."""
        self._limit_s = limit_s

    def __call__(self, work: Callable[[], T], stopped: threading.Event | None = None) -> T:
        """The result of the work. Raises its `RequestFailed` if it is not transient, or still there at the limit.

        Once `stopped` is set, nothing is tried again.
        """
        backoff = Backoff(self._limit_s, stopped)
        while True:
            try:
                return work()
            except RequestFailed as error:
                backoff.wait(error)
