"""Every decision once: a log line with the facts, the latest for `top`, and each listener."""

from __future__ import annotations

import logging
import time

import pytest

from controller import journal as module
from controller.journal import MAX_DECISIONS, REFUSAL_INTERVAL_S, Journal, PlacementDecision

FACTS = ("model", "version", "predictor", "reason", "outcome", "seconds")


def facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name in FACTS}


def test_a_decision_is_logged_with_its_facts_and_without_those_it_has_not(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    with caplog.at_level(logging.INFO, logger=module.__name__):
        journal.write("load", "sales_de", 4, "triton:8001", "request", 1.23456)
        journal.write("predictor", predictor="triton:8001", reason="came")
    whole, short = caplog.records
    assert (whole.levelno, whole.getMessage()) == (logging.INFO, "load")
    assert facts(whole) == {
        "model": "sales_de",
        "version": 4,
        "predictor": "triton:8001",
        "reason": "request",
        "outcome": "ok",
        "seconds": 1.235,
    }
    assert facts(short) == {"predictor": "triton:8001", "reason": "came", "outcome": "ok", "seconds": 0.0}


def test_what_did_not_end_well_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=module.__name__):
        Journal().write("load", "sales_de", 4, outcome="out of memory")
    assert [(record.levelno, facts(record)["outcome"]) for record in caplog.records] == [
        (logging.WARNING, "out of memory")
    ]


def test_listeners_receive_each_decision_with_its_time() -> None:
    early: list[PlacementDecision] = []
    late: list[PlacementDecision] = []
    journal = Journal([early.append])
    before_s = time.time()
    journal.write("load", "sales_de", 1)
    journal.listen(late.append)
    journal.write("unload", "sales_de", 1, reason="idle for 900 s")
    assert [each.action for each in early] == ["load", "unload"]
    assert late == early[1:]
    assert before_s <= early[0].time_s <= early[1].time_s <= time.time()


def test_the_latest_are_kept_oldest_first_and_no_more_than_that() -> None:
    journal = Journal()
    for number in range(MAX_DECISIONS + 10):
        journal.write("load", f"m{number}")
    assert [each.model for each in journal.latest] == [f"m{number}" for number in range(10, MAX_DECISIONS + 10)]


def test_callers_that_come_back_are_one_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("controller.journal.time.monotonic", lambda: now[0])
    journal = Journal()
    for _ in range(100):
        journal.refused("sales_de", 1, "full")
        journal.refused("sales_de", 2, "full")
    assert [(each.version, each.outcome) for each in journal.latest] == [(1, "refused"), (2, "refused")]
    now[0] += REFUSAL_INTERVAL_S - 1
    journal.refused("sales_de", 1, "full")
    assert len(journal.latest) == 2
    now[0] += 1
    journal.refused("sales_de", 1, "full of what is pinned")
    assert [each.reason for each in journal.latest] == ["full", "full", "full of what is pinned"]


def test_a_fault_is_logged_with_where_it_came_from(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("nobody foresaw it")
    Journal().fault(error, "sales_de")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert vars(record)["model"] == "sales_de"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
