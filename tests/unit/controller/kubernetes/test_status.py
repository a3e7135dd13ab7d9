"""Status and events of a ServedModel for every model state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.catalog.entities import Catalog, DocumentResult, Model, Reason, Version
from controller.catalog.served_model import DocumentSource
from controller.kubernetes.events import Decision, decisions
from controller.kubernetes.status import dated, status_of, summary
from controller.traffic.model_state import ModelState
from triptych.contract.verification.families import VersionIdentity

WHERE = "servedmodel/here/sales-de"
NOW, LATER = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"
Json = dict[str, Any]


def result(asked: dict[int, int], *problems: tuple[Reason, str]) -> DocumentResult:
    return DocumentResult(DocumentSource(WHERE, generation=7), "sales_de", asked, problems)


def catalog(document: str = WHERE) -> Catalog:
    model = Model("sales_de", "sales", "DE", b"", {}, {}, document=document)
    return Catalog({"sales_de": model})


def model_state(traffic: dict[int, int], ready: dict[int, int] | None = None, **more: Any) -> ModelState:
    """`ready`: how many Tritons have a version."""
    addresses = {version: tuple(f"triton-{n}:8001" for n in range(count)) for version, count in (ready or {}).items()}
    facts: dict[str, Any] = {"failures": {}, "held_back": {}, "desired_replicas": 1} | more
    return ModelState(traffic, addresses, **facts)


def conditions(status: Json) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


UNKNOWN = (Reason.UNKNOWN_VERSION, "no version 7")
REMOVED = (Reason.VERSION_REMOVED, "version 2 is gone")
CASES = {
    "in force as asked": (
        result({1: 95, 2: 5}),
        model_state({1: 95, 2: 5}, {1: 2, 2: 1}),
        {"Ready": ("True", "InForce"), "Valid": ("True", "Accepted"), "Progressing": ("False", "Complete")},
    ),
    "the version in traffic cannot run where it is loaded": (
        result({1: 100}),
        model_state({1: 100}, {1: 1}, failing={1: "Stub process is not healthy"}),
        {"Ready": ("False", "CannotRun"), "Valid": ("True", "Accepted"), "Progressing": ("False", "Complete")},
    ),
    "a version without traffic cannot run": (
        result({1: 100, 2: 0}),
        model_state({1: 100, 2: 0}, {1: 1, 2: 1}, failing={2: "Stub process is not healthy"}),
        {"Ready": ("True", "InForce"), "Valid": ("True", "Accepted"), "Progressing": ("False", "Complete")},
    ),
    "cold, loaded on request": (
        result({1: 100}),
        model_state({1: 100}),
        {"Ready": ("True", "InForce"), "Valid": ("True", "Accepted"), "Progressing": ("False", "Complete")},
    ),
    "a new version is being loaded": (
        result({1: 95, 2: 5}),
        model_state({1: 100}, {1: 1}, held_back={2: "it has not been loaded yet"}),
        {"Ready": ("False", "Loading"), "Valid": ("True", "Accepted"), "Progressing": ("True", "Loading")},
    ),
    "a new version cannot be loaded": (
        result({1: 95, 2: 5}),
        model_state({1: 100}, {1: 1}, failures={2: "out of memory"}, held_back={2: "out of memory"}),
        {"Ready": ("False", "LoadFailed"), "Valid": ("True", "Accepted"), "Progressing": ("False", "LoadFailed")},
    ),
    "a dark launch cannot be loaded": (
        result({1: 100, 2: 0}),
        model_state({1: 100, 2: 0}, {1: 1}, failures={2: "out of memory"}),
        {"Ready": ("True", "InForce"), "Valid": ("True", "Accepted"), "Progressing": ("False", "LoadFailed")},
    ),
    "the only version cannot be loaded": (
        result({1: 100}),
        model_state({1: 100}, failures={1: "out of memory"}),
        {"Ready": ("False", "LoadFailed"), "Valid": ("True", "Accepted"), "Progressing": ("False", "LoadFailed")},
    ),
    "a new version that failed is tried again": (
        result({1: 95, 2: 5}),
        model_state({1: 100}, {1: 1}, failures={2: "out of memory"}, held_back={2: "soon"}, trying=frozenset({2})),
        {"Ready": ("False", "Loading"), "Valid": ("True", "Accepted"), "Progressing": ("True", "Loading")},
    ),
    "the only version failed and is tried again": (
        result({1: 100}),
        model_state({1: 100}, failures={1: "out of memory"}, trying=frozenset({1})),
        {"Ready": ("False", "Loading"), "Valid": ("True", "Accepted"), "Progressing": ("True", "Loading")},
    ),
    "it failed on one Triton and is ready on another": (
        result({1: 100}),
        model_state({1: 100}, {1: 1}, failures={1: "out of memory"}),
        {"Ready": ("True", "InForce"), "Valid": ("True", "Accepted"), "Progressing": ("False", "Complete")},
    ),
    "a wrong document, the last good traffic": (
        result({1: 50, 7: 50}, UNKNOWN),
        model_state({1: 100}, {1: 1}),
        {"Ready": ("False", "UnknownVersion"), "Valid": ("False", "UnknownVersion")},
    ),
    "an unreadable document, the last good traffic": (
        result({}, (Reason.INVALID, "spec.traffic: is missing")),
        model_state({1: 100}, {1: 1}),
        {"Ready": ("False", "Invalid"), "Valid": ("False", "Invalid")},
    ),
    "removed from the disk under traffic": (
        result({1: 60, 2: 40}, REMOVED),
        model_state({1: 60, 2: 40}, {1: 1, 2: 1}),
        {"Ready": ("True", "InForce"), "Valid": ("False", "VersionRemoved")},
    ),
    "two things are wrong": (
        result({1: 60, 7: 40}, UNKNOWN, REMOVED),
        model_state({1: 100}),
        {"Ready": ("False", "UnknownVersion"), "Valid": ("False", "UnknownVersion")},
    ),
    "no such model": (
        result({1: 100}, (Reason.UNKNOWN_MODEL, "none")),
        None,
        {"Ready": ("False", "UnknownModel"), "Valid": ("False", "UnknownModel"), "Progressing": ("False", "NotServed")},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_conditions_say_whether_it_is_as_asked_and_why_not(case: str) -> None:
    about, how, expected = CASES[case]
    found = conditions(status_of(about, catalog(), how))
    assert found | expected == found
    assert set(found) == {"Ready", "Valid", "Progressing"}


def test_the_status_has_traffic_replicas_and_versions_of_one_generation() -> None:
    status = status_of(
        result({1: 90, 2: 10, 3: 0}),
        catalog(),
        model_state({1: 100}, {1: 3, 2: 1}, held_back={2: "not yet"}, desired_replicas=2),
    )
    assert status["observedGeneration"] == 7
    assert {each["observedGeneration"] for each in status["conditions"]} == {7}
    assert status["summary"] == "1:100% -> 1:90% 2:10% 3:0%"
    assert status["traffic"] == [{"version": 1, "percent": 100}]
    assert (status["replicas"], status["desiredReplicas"]) == (3, 2)
    assert [each["version"] for each in status["versions"]] == [1, 2, 3]
    expected = {"version": 2, "readyOn": ["triton-0:8001"], "reason": "not yet", "files": "", "contract": ""}
    assert status["versions"][1] == expected


def test_the_state_of_a_model_of_another_document_is_not_in_this_status() -> None:
    taken = result({2: 100}, (Reason.ROUTE_TAKEN, "another is one"))
    status = status_of(taken, catalog("servedmodel/here/other"), model_state({1: 100}, {1: 1}))
    assert status["traffic"] == []
    assert status["summary"] == "none -> 2:100%"
    assert conditions(status)["Ready"] == ("False", "RouteTaken")


def with_aliases(*problems: tuple[Reason, str]) -> Json:
    """The status of version 3, with aliases of it and of versions 4 and 9."""
    versions = {number: Version(number, VersionIdentity("sales", "DE", ""), b"{}", "") for number in (3, 4)}
    aliases = {"production": 3, "next": 4, "gone": 9}
    model = Model("sales_de", "sales", "DE", b"", versions, {3: 100}, document=WHERE, aliases=aliases)
    asked = replace(result({3: 100}), alias_problems=problems)
    how = model_state({3: 100}, {3: 1}, failures={4: "no memory"})
    return status_of(asked, Catalog({"sales_de": model}), how)


def test_aliases_are_in_one_line_and_their_versions_have_a_state() -> None:
    status = with_aliases()
    assert status["aliasSummary"] == "gone:9 next:4 production:3"
    assert status["aliases"][0] == {"alias": "gone", "version": 9}
    assert [(each["version"], each["reason"]) for each in status["versions"]] == [(3, ""), (4, "no memory")]
    assert conditions(status)["AliasesResolved"] == ("True", "Resolved")


def test_an_alias_without_its_version_has_a_condition_of_its_own() -> None:
    status = with_aliases((Reason.UNKNOWN_VERSION, "spec.aliases: gone: no version 9"))
    assert conditions(status)["AliasesResolved"] == ("False", "UnknownVersion")
    assert status["conditions"][-1]["message"] == "spec.aliases: gone: no version 9"
    assert conditions(status)["Ready"] == ("True", "InForce")
    assert conditions(status)["Valid"] == ("True", "Accepted"), "a rollout takes False for a refusal of its traffic"


def test_a_condition_keeps_its_time_until_it_turns() -> None:
    good = status_of(result({1: 100}), catalog(), model_state({1: 100}))
    first = dated(good, {}, NOW)
    assert {each["lastTransitionTime"] for each in first["conditions"]} == {NOW}
    assert dated(good, first, LATER) == first
    bad = status_of(result({7: 100}, UNKNOWN), catalog(), model_state({1: 100}))
    times = {each["type"]: each["lastTransitionTime"] for each in dated(bad, first, LATER)["conditions"]}
    assert times == {"Ready": LATER, "Valid": LATER, "Progressing": NOW}


def test_a_long_reason_of_triton_is_cut() -> None:
    failed = model_state({1: 100}, failures={1: "x" * 10_000})
    status = status_of(result({1: 100}), catalog(), failed)
    assert all(len(each["message"]) < 5000 for each in status["conditions"])


@pytest.mark.parametrize(
    ("in_force", "asked", "text"),
    [
        ({3: 95, 4: 5}, {3: 95, 4: 5}, "3:95% 4:5%"),
        ({3: 100}, {4: 5, 3: 95}, "3:100% -> 3:95% 4:5%"),
        ({3: 100}, {}, "3:100%"),
        ({}, {3: 100}, "none -> 3:100%"),
    ],
)
def test_the_summary_shows_what_is_in_force_and_what_is_asked_for(
    in_force: dict[int, int], asked: dict[int, int], text: str
) -> None:
    assert summary(in_force, asked) == text


def reported(before: Json, after: Json) -> list[tuple[bool, str, str]]:
    return [(each.warning, each.reason, each.note) for each in decisions(before, after)]


def test_each_decision_is_reported_once() -> None:
    steps = [
        status_of(result({1: 100}), catalog(), model_state({1: 100})),
        status_of(result({1: 90, 2: 10}), catalog(), model_state({1: 100}, held_back={2: "waits"})),
        status_of(result({1: 90, 2: 10}), catalog(), model_state({1: 100}, failures={2: "bad file"})),
        status_of(result({1: 90, 2: 10}), catalog(), model_state({1: 90, 2: 10})),
        status_of(result({2: 100}), catalog(), model_state({2: 100})),
        status_of(result({7: 100}, UNKNOWN), catalog(), model_state({2: 100})),
        status_of(result({2: 100}), catalog(), model_state({2: 100})),
    ]
    states = [{}, *(dated(step, {}, NOW) for step in steps)]
    assert [reported(before, after) for before, after in zip(states, states[1:], strict=False)] == [
        [(False, "TrafficApplied", "in force is 1:100%")],
        [],
        [(True, "LoadFailed", "version 2: bad file")],
        [(False, "TrafficApplied", "in force is 1:90% 2:10%; before: 1:100%")],
        [(False, "Promoted", "version 2 has all of the traffic; before: 1:90% 2:10%")],
        [(True, "UnknownVersion", "no version 7")],
        [(False, "Accepted", "the document and its versions are good again")],
    ]
    assert [reported(state, state) for state in states[1:]] == [[]] * len(steps)


def test_a_removed_version_is_an_event_though_the_traffic_stays() -> None:
    before = status_of(result({1: 60, 2: 40}), catalog(), model_state({1: 60, 2: 40}))
    after = status_of(result({1: 60, 2: 40}, REMOVED), catalog(), model_state({1: 60, 2: 40}))
    assert decisions(before, after) == [Decision(True, "Refuse", "VersionRemoved", "version 2 is gone")]
