"""Cancellation of work in a thread: long work checks between its parts whether its caller still waits."""

from __future__ import annotations

from contextvars import ContextVar
from threading import Event

from triptych.errors import DeadlineExceeded

CANCELLED: ContextVar[Event | None] = ContextVar("cancelled", default=None)


def check_cancelled() -> None:
    """Raises `DeadlineExceeded` if the caller's deadline has passed, or the caller has gone."""
    cancelled = CANCELLED.get()
    if cancelled is not None and cancelled.is_set():
        raise DeadlineExceeded("the call was given up before its work was done")
