"""Errors that Python cannot raise are log lines too, and not one for each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from triptych.server import base
from triptych.telemetry import logs, request_scope


def unraisable(error: BaseException) -> Any:
    return SimpleNamespace(exc_type=type(error), exc_value=error, object=b"\xff", err_msg=None)


@pytest.fixture
def unfiltered() -> Iterator[None]:
    """Takes the filters of a test off again."""
    yield
    for name in logs.CAUSED_BY_CALLERS:
        for each in tuple(logging.getLogger(name).filters):
            logging.getLogger(name).removeFilter(each)


@pytest.mark.usefixtures("unfiltered")
def test_lines_that_callers_cause_are_limited_and_those_left_out_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    limit = logs.LineLimit(3, lambda: now_s)
    log = logging.getLogger("triptych.request")
    log.addFilter(limit)
    caplog.set_level(logging.DEBUG)
    for _ in range(10):
        log.info("request refused", extra={"text": "x"})
    log.error("internal error")  # is counted by itself
    log.debug("request answered")
    now_s = 1.0
    log.info("request refused", extra={"suppressed": 2})
    assert [(each.msg, each.__dict__.get("suppressed")) for each in caplog.records] == [
        *[("request refused", None)] * 3,
        ("internal error", None),
        ("request answered", None),
        ("request refused", 9),
    ]


def test_zero_lines_in_a_second_are_no_limit() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "request refused", None, None)
    assert all(logs.LineLimit(0).filter(record) for _ in range(1_000))


@pytest.mark.usefixtures("unfiltered")
def test_the_limit_is_set_with_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    logs.configure("s", "INFO", 5)
    assert {request_scope.log.name, base.log.name} == set(logs.CAUSED_BY_CALLERS)
    for name in logs.CAUSED_BY_CALLERS:
        record = logging.LogRecord(name, logging.INFO, "", 0, "request refused", None, None)
        assert sum(bool(logging.getLogger(name).filter(record)) for _ in range(20)) == 5


def test_an_ignored_exception_of_each_kind_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    hook = logs._UnraisableLog()
    for error in (ValueError("a"), ValueError("b"), KeyError("c")):
        hook(unraisable(error))
    assert [record.__dict__["error"] for record in caplog.records] == ["ValueError('a')", "KeyError('c')"]
    now_s = logs.UNRAISABLE_S
    hook(unraisable(ValueError("d")))
    assert caplog.records[-1].__dict__["error"] == "ValueError('d')"


def test_the_hook_is_set_with_the_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    logs.configure("s", "INFO")
    assert isinstance(sys.unraisablehook, logs._UnraisableLog)
