"""The controller's log as a list of loads, and which request waited for which."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.placement.controller_log import Loads, PlacementEvent, read, waited_for_unload
from benchmarks.placement.replay import stand_ins


def line(message: str, model: str, at: str, seconds: float, **more: str) -> str:
    return json.dumps({"message": message, "model": model, "seconds": seconds, "timestamp": at, "outcome": "ok"} | more)


def event(model: str, ended_s: float, seconds: float = 1.0) -> PlacementEvent:
    return PlacementEvent("load", model, ended_s, seconds, "request")


def test_loads_and_unloads_that_went_well_are_read_with_their_times(tmp_path: Path) -> None:
    log = tmp_path / "controller.log"
    log.write_text(
        "\n".join(
            [
                "Traceback (most recent call last):",
                line("load", "a", "1970-01-01T00:00:10.5+00:00", 2.5, reason="request"),
                line("load", "b", "1970-01-01T00:00:11+00:00", 1, outcome="no such file"),
                line("unload", "a", "1970-01-01T00:00:20+00:00", 1.25),
                line("refuse", "c", "1970-01-01T00:00:21+00:00", 0),
            ]
        )
    )
    events = read(log)
    assert [(each.action, each.model, each.began_s, each.ended_s) for each in events] == [
        ("load", "a", 8.0, 10.5),
        ("unload", "a", 18.75, 20.0),
    ]


def test_a_request_waited_for_the_load_that_ended_before_its_answer() -> None:
    loads = Loads([event("a", 10.0), event("b", 10.0)])
    assert loads.waited_for("a", 9.5, 10.2) == event("a", 10.0)
    assert loads.waited_for("a", 10.1, 10.2) is None
    assert loads.waited_for("a", 9.0, 9.9) is None
    assert loads.waited_for("c", 9.5, 10.2) is None


def test_loads_that_run_at_a_moment_are_counted() -> None:
    loads = Loads([event("a", 10.0, 2.0), event("b", 10.5, 1.0), event("c", 20.0)])
    assert [loads.running(at) for at in (7.9, 8.0, 9.6, 10.0, 10.5, 19.5)] == [0, 1, 2, 1, 0, 1]


def test_another_model_replaces_one_that_is_kept_loaded() -> None:
    names = ["a", "b", "c", "d"]
    assert stand_ins([event("a", 1), event("b", 2)], kept={"a"}, names=names) == {"a": "d", "b": "b"}


def test_a_load_that_began_as_an_unload_ended_had_waited_for_it() -> None:
    events = [PlacementEvent("unload", "b", 9.0, 1.0, "headroom for the next load"), event("c", 9.0)]
    assert waited_for_unload(events, event("a", 10.01), sent_s=8.5)
    assert not waited_for_unload(events, event("a", 10.01), sent_s=9.005), "the capacity was free when it was sent"
    assert not waited_for_unload(events, event("a", 10.5), sent_s=8.5), "something else kept it"
    assert not waited_for_unload(events, event("a", 9.9), sent_s=8.5), "it began before"
