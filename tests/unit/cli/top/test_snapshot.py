"""A snapshot of `triptych top` from the controller's replies, and its tables."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from triptych.protocol import controller_pb2 as cp
from triptych_cli.top.snapshot import SORTS, Snapshot, as_json, format_age, format_bytes, format_versions, take_snapshot
from triptych_cli.top.tables import render

REPLY = cp.DescribeReply(
    predictors=[
        cp.Predictor(address="b:8001", answers=False, budget_bytes=1 << 30),
        cp.Predictor(address="a:8001", answers=True, used_bytes=1 << 29, budget_bytes=1 << 30, models=2, loading=1),
    ],
    loaded_models=[
        cp.LoadedModel(
            model="sales_de",
            predictor="a:8001",
            versions=[3, 4],
            bytes=1 << 28,
            idle_s=5,
            requests_per_s=2.5,
            desired_replicas=1,
        ),
        cp.LoadedModel(
            model="digits_de",
            predictor="a:8001",
            versions=[1],
            bytes=1 << 27,
            idle_s=400,
            pinned=True,
            desired_replicas=2,
        ),
    ],
    store=cp.Store(location="s3://models/eu", read_s=1),
    decisions=[
        cp.Decision(time_s=1, action="load", model="digits_de version 1", seconds=0.5, outcome="ok", reason="request"),
        cp.Decision(time_s=2, action="load", model="sales_de version 4", outcome="no such file", reason="new version"),
    ],
)
MODELS = {
    "sales_de": cp.Model(
        name="sales_de", versions=[cp.Version(version=3, percent=95), cp.Version(version=4, percent=5)]
    )
}


def shown(sort: str = "model") -> Snapshot:
    return take_snapshot("r:9002", REPLY, MODELS, sort)


def drawn(of: Snapshot, height: int | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(render(of, height))
    return out.getvalue()


@pytest.mark.parametrize(
    ("sort", "first"),
    [("model", "digits_de"), ("bytes", "sales_de"), ("rate", "sales_de"), ("used", "sales_de"), ("idle", "digits_de")],
)
def test_loaded_models_come_in_the_order_asked_for(sort: str, first: str) -> None:
    assert shown(sort).loaded_models[0].message.model == first
    assert sort in SORTS


def test_traffic_is_that_of_the_catalog_and_unknown_models_have_none() -> None:
    assert [dict(each.traffic) for each in shown().loaded_models] == [{1: 0}, {3: 95, 4: 5}]


def test_the_latest_decision_comes_first() -> None:
    assert [each.time_s for each in shown().decisions] == [2, 1]


def test_a_snapshot_as_json_has_numbers_and_every_field() -> None:
    plain = json.loads(json.dumps(as_json(shown("bytes"))))
    assert plain["loaded_models"][0]["bytes"] == 1 << 28
    assert plain["loaded_models"][0]["versions"] == [3, 4]
    assert plain["loaded_models"][0]["traffic"] == {"3": 95, "4": 5}
    assert plain["loaded_models"][0]["pinned"] is False
    assert plain["predictors"][1]["answers"] is False


def test_the_tables_name_everything() -> None:
    text = drawn(shown())
    for part in (
        *(
            "2 predictors, 2 models loaded, 1 in the catalog",
            "does not answer",
            "512 MiB of 1 GiB",
            "3: 95 %, 4: 5 %",
            "pinned",
        ),
        *("7 min", "2.5", "no such file", "new version"),
    ):
        assert part in text


@pytest.mark.parametrize(
    ("store", "text"),
    [
        (cp.Store(location="s3://models/eu", read_s=995), "models of s3://models/eu, last read 5 s ago\n"),
        (
            cp.Store(location="/models", read_s=400, fault="gone\nnow"),
            "models of /models, last read 10 min ago: gone now\n",
        ),
        (cp.Store(location="/models", fault="gone"), "models of /models, never read: gone\n"),
    ],
)
def test_the_store_of_the_models_has_its_age_and_its_fault(
    store: cp.Store, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triptych_cli.top.tables.time.time", lambda: 1000.0)
    snapshot = take_snapshot("r:9002", cp.DescribeReply(store=store), {}, "model")
    assert text in "\n".join(line.rstrip() for line in drawn(snapshot).splitlines()) + "\n"
    assert as_json(snapshot)["store"] == {"location": store.location, "fault": store.fault, "read_s": store.read_s}


def test_what_does_not_fit_is_counted() -> None:
    many = cp.DescribeReply(
        loaded_models=[cp.LoadedModel(model=f"m{number:03}", desired_replicas=1) for number in range(100)]
    )
    text = drawn(take_snapshot("r:9002", many, {}, "model"), height=30)
    assert len(text.splitlines()) <= 30
    assert "m000" in text
    assert "more" in text
    assert "m099" not in text
    assert "m099" in drawn(take_snapshot("r:9002", many, {}, "model"))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1024, "1 KiB"), (30 << 20, "30 MiB"), (5 << 30, "5 GiB"), (3 << 40, "3 TiB")]
)
def test_sizes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


def test_a_version_without_traffic_is_its_number() -> None:
    assert format_versions({4: 5, 3: 95, 2: 0}, {}) == "2, 3: 95 %, 4: 5 %"


def test_aliases_stand_beside_the_versions_that_are_loaded() -> None:
    model = cp.Model(
        name="sales_de", versions=MODELS["sales_de"].versions, aliases={"production": 3, "champion": 3, "old": 1}
    )
    snapshot = take_snapshot("r:9002", REPLY, {"sales_de": model}, "bytes")
    assert "3 (champion, production): 95 %, 4: 5 %" in drawn(snapshot)
    assert [each["aliases"] for each in as_json(snapshot)["loaded_models"]] == [{"champion": 3, "production": 3}, {}]
