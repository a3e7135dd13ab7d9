"""Errors that Python cannot raise are log lines too, and not one for each."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from triptych.telemetry import logs


def unraisable(error: BaseException) -> Any:
    return SimpleNamespace(exc_type=type(error), exc_value=error, object=b"\xff", err_msg=None)


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
