"""A condition that lasts has one line when it begins and one when it is over."""

from __future__ import annotations

import logging

import pytest

from triptych.telemetry.failure_log import FailureLog


def test_a_failure_is_logged_once_for_each_key_until_it_has_recovered(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog(logging.getLogger("test"))
    with caplog.at_level(logging.INFO, "test"):
        failures.recovered("a", "never failed")
        for reason in ("first", "second"):
            failures.failed("a", "lost", reason=reason)
        failures.failed("b", "lost", level=logging.INFO, reason="other")
        failures.recovered("a", "restored", count=1)
        failures.recovered("a", "restored", count=2)
        failures.recovered("b")
        failures.failed("a", "lost", reason="third")
    lines = [(record.levelname, record.getMessage(), record.__dict__.get("reason")) for record in caplog.records]
    assert lines == [
        ("WARNING", "lost", "first"),
        ("INFO", "lost", "other"),
        ("INFO", "restored", None),
        ("WARNING", "lost", "third"),
    ]


def test_failures_that_are_pruned_are_logged_again_when_they_come_back(caplog: pytest.LogCaptureFixture) -> None:
    failures = FailureLog(logging.getLogger("test"))
    for faults in ("ab", "b", "ab"):
        failures.prune(faults)
        for fault in faults:
            failures.failed(fault, fault)
    assert caplog.messages == ["a", "b", "a"]
