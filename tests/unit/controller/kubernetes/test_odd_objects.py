"""One odd object, event or lease of the API server leaves the others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.served_model import MAX_FAULTS, Document, DocumentFault
from controller.kubernetes import api as api_module
from controller.kubernetes.api import PAGE, Api, ApiUnavailable, Kind
from controller.kubernetes.documents import KubernetesDocuments
from controller.kubernetes.election import Election
from controller.kubernetes.events import Decision, EventRecorder
from controller.kubernetes.status import dated
from tests.fakes.api_server import ApiServer, settle, spec

GOOD = spec("good", {1: 100})
HEAD = {"name": "odd", "uid": "u", "generation": 1, "creationTimestamp": "2026-11-21", "resourceVersion": "7"}
ODD: list[Any] = [
    None,
    [],
    "text",
    {},
    {"metadata": None},
    {"metadata": {"name": None, "uid": "u"}},
    {"metadata": {"name": "odd"}},
    {"metadata": {"name": 5, "uid": 6}},
    {"metadata": HEAD},
    {"metadata": HEAD, "spec": None},
    {"metadata": HEAD, "spec": []},
    {"metadata": HEAD, "spec": "all"},
    {"metadata": HEAD, "spec": {"model": {"a": 1}, "traffic": []}},
    {"metadata": HEAD, "spec": {"model": ["good"], "traffic": [{"version": 1, "percent": 100}]}},
    {"metadata": HEAD, "spec": {"model": "good\x00\n", "traffic": {"version": 1}}},
    {"metadata": HEAD, "spec": {"model": "m" * 300, "traffic": [{"version": 1, "percent": 100}]}},
    {"metadata": HEAD, "spec": {"model": "odd", "traffic": [{"version": "one", "percent": None}] * 1000}},
    {"metadata": HEAD, "spec": GOOD | {"unknown": {"deep": [[[[]]]]}}},
    {"metadata": HEAD | {"generation": "x", "creationTimestamp": None}, "spec": spec("odd", {1: 100})},
    {"metadata": HEAD | {"creationTimestamp": 5, "generation": None}, "spec": spec("odd", {1: 100})},
    {"metadata": HEAD, "spec": spec("odd", {1: 100}), "status": []},
    {"metadata": HEAD, "spec": spec("odd", {1: 100}), "status": {"traffic": "1:100", "conditions": {"a": 1}}},
    {"metadata": HEAD, "spec": spec("odd", {1: 100}), "status": {"traffic": [{"version": "1"}], "versions": [None]}},
    {"metadata": HEAD, "spec": spec("odd", {1: 100}), "status": {"conditions": [None, {"status": "True"}]}},
]


def shares(documents: KubernetesDocuments) -> dict[str, dict[int, int]]:
    items = (item for item in documents.now() if isinstance(item, Document))
    return {item.model: dict(item.traffic) for item in items}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("by_watch", [False, True], ids=["listed", "watched"])
async def test_an_odd_object_leaves_the_others(odd: Any, by_watch: bool) -> None:
    server = ApiServer()
    server.put("good", GOOD)
    if not by_watch:
        server.objects["servedmodels"]["odd"] = odd
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    await settle()
    if by_watch:
        for event in ("ADDED", "MODIFIED", "ODD", "BOOKMARK", "DELETED", "ADDED"):
            server._tell(event, odd)
        await settle()
    server.put("later", spec("later", {2: 100}))
    await settle()
    found = shares(documents)
    assert {name: found[name] for name in ("good", "later")} == {"good": {1: 100}, "later": {2: 100}}
    assert server.calls == ["list", "watch"], "the watch goes on"
    catalog = build_catalog([], documents.now(), Catalog(), undeclared="lowest")
    assert all(fault.isprintable() and len(fault) < 5000 for fault in catalog.faults())
    for name in ("good", "odd"):
        observed = documents.observed(name)
        assert observed is None or dated({"conditions": [], "versions": []}, observed.status, "now")
    documents.names_of(["good"])
    await documents.close()


async def test_what_is_no_object_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer()
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    await settle()
    for _ in range(5):
        server._tell("MODIFIED", {"metadata": {"name": "odd"}})
    await settle()
    await documents.close()
    assert [record.message for record in caplog.records] == ["ServedModel skipped"]


async def test_an_object_of_a_thousand_faults_has_a_few_and_says_how_many_more() -> None:
    server = ApiServer()
    server.put("odd", {"model": "m", "traffic": [{"version": "x" * 10_000, "percent": "y"}] * 500})
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    faults = [item for item in documents.now() if isinstance(item, DocumentFault)]
    assert len(faults) <= MAX_FAULTS + 1
    assert "more faults" in faults[-1].text
    assert all(len(fault.text) < 1000 for fault in faults)
    await documents.close()


class Answers:
    """A client whose list and watch return the answers that the test sets."""

    def __init__(self, *listed: Any, chunks: tuple[bytes, ...] = ()) -> None:
        self._listed, self._chunks, self.asked = iter(listed), chunks, list[tuple[int, str | None]]()

    async def list_namespaced_custom_object_without_preload_content(
        self, watch: bool = False, limit: int = 0, _continue: str | None = None, **_: Any
    ) -> Any:
        if not watch:
            self.asked.append((limit, _continue))
            answer = next(self._listed)
            self._chunks = (answer if isinstance(answer, bytes) else json.dumps(answer).encode(),)
        return SimpleNamespace(content=self, close=lambda: None)

    async def iter_any(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


def answering(answers: Answers) -> Api:
    api = Api.__new__(Api)
    api._objects = cast(Any, answers)
    return api


KIND = Kind("triptych.dev", "v1alpha1", "here", "servedmodels")


async def pages(answers: Answers) -> list[tuple[list[Any], str]]:
    return [page async for page in answering(answers).pages(KIND)]


async def test_a_list_of_nothing_may_be_null_and_what_is_no_list_is_an_unavailable_api_server() -> None:
    """kubernetes_asyncio#379"""
    answer = {"items": None, "metadata": {"resourceVersion": 5}}
    assert await pages(Answers(answer)) == [([], "5")]
    odd_answers: list[Any] = [None, [], "text", {}, {"items": [], "metadata": None}]
    odd_answers += [b"", b"<html>", b"\xff", b"[" * 9999]
    for odd in odd_answers:
        with pytest.raises(ApiUnavailable, match="no list of servedmodels"):
            await pages(Answers(odd))


async def test_a_list_is_read_page_by_page_to_its_end() -> None:
    answers = Answers(
        *({"items": [], "metadata": {"resourceVersion": 5, "continue": token}} for token in ("a", "b", ""))
    )
    assert await pages(answers) == [([], "5")] * 3
    assert answers.asked == [(PAGE, None), (PAGE, "a"), (PAGE, "b")]


async def test_a_page_of_large_objects_is_asked_for_again_with_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 objects near the limit of etcd have 750 MiB: the annotations and labels are anybody's."""
    monkeypatch.setattr(api_module, "MAX_PAGE_BYTES", 1000)
    large, last = b"x" * 1001, {"items": [], "metadata": {"resourceVersion": 5}}
    first = {"items": [], "metadata": {"resourceVersion": 5, "continue": "a"}}
    answers = Answers(large, first, large, last)
    assert await pages(answers) == [([], "5")] * 2
    assert answers.asked == [(500, None), (62, None), (62, "a"), (7, "a")]
    with pytest.raises(ApiUnavailable, match="one object of servedmodels has more than 1000 bytes"):
        await pages(Answers(*[large] * 4))


async def events(*chunks: bytes) -> list[tuple[str, Any]]:
    return [event async for event in answering(Answers(chunks=chunks)).watch(KIND, "1")]


async def test_an_event_of_any_length_and_cut_anywhere_is_one() -> None:
    """kubernetes_asyncio#137: aiohttp's lines end at 128 KiB."""
    long = {"type": "ADDED", "object": {"metadata": {"annotations": {"a": "ä" * 600_000}}}}
    text = json.dumps(long, ensure_ascii=False).encode() + b"\n" + b'{"type": "ADDED", "object": {}}\n'
    for size in (1000, 65536, len(text)):
        chunks = [text[at : at + size] for at in range(0, len(text), size)]
        found = await events(*chunks)
        assert [kind for kind, _ in found] == ["ADDED", "ADDED"]
        assert found[0][1] == long["object"]


@pytest.mark.parametrize(
    "odd", [b"null", b"[]", b"5", b'{"type": "ADDED"}', b'{"type": 1, "object": {}}', b'{"object": []}']
)
async def test_an_event_that_is_none_is_named_and_the_others_come(odd: bytes, caplog: pytest.LogCaptureFixture) -> None:
    found = await events(odd + b'\n{"type": "ADDED", "object": {"a": 1}}')
    assert found == [("ADDED", {"a": 1})]
    assert "invalid watch event skipped" in caplog.text


async def test_an_event_without_an_end_ends_the_watch_and_not_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_EVENT_BYTES", 1000)
    with pytest.raises(ApiUnavailable, match="an event of more than 1000 bytes"):
        await events(*[b"x" * 600] * 3)
    with pytest.raises(ApiUnavailable, match="the watch broke"):
        await events(b"{not json}\n")


ODD_LEASES: list[Any] = [
    None,
    [],
    {"spec": None},
    {"spec": []},
    {"spec": {"holderIdentity": None, "leaseTransitions": None, "leaseDurationSeconds": None}},
    {"spec": {"holderIdentity": "", "leaseTransitions": "many", "leaseDurationSeconds": "x"}},
    {"spec": {"holderIdentity": {"a": 1}, "leaseDurationSeconds": -5, "acquireTime": None}},
    {"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 1e300, "leaseTransitions": True}},
]


@pytest.mark.parametrize("lease", ODD_LEASES)
async def test_a_lease_of_another_shape_is_taken_over_once_it_is_over(lease: Any) -> None:
    class Lock:
        lease: Any

        async def read(self) -> Any:
            return self.lease

        async def create(self, spec: Any) -> Any:
            raise AssertionError

        async def update(self, lease: Any, spec: Any) -> Any:
            self.lease = {"spec": spec}
            return self.lease

    now_s, lock = 0.0, Lock()
    lock.lease = lease
    election = Election(lock, "me_10.0.0.1:9002", clock=lambda: now_s)
    if not await election._try_to_hold():
        assert ":" in election.leader_address or election.leader_address == ""
        now_s = 60.0
        assert await election._try_to_hold()
    assert election.is_leader
    assert election.leader_address == "10.0.0.1:9002"
    assert isinstance(lock.lease["spec"]["leaseTransitions"], int)


@pytest.mark.parametrize("name", ["a" * 239 + "-" + "b" * 13, "a" * 238 + ".-" + "b" * 13, "a" * 253, "a"])
async def test_an_event_of_an_object_of_any_name_has_a_name_that_is_one(name: str) -> None:
    """kubernetes#127594"""
    server = ApiServer()
    server.put(name, GOOD)
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    observed = documents.observed(name)
    assert observed is not None
    await EventRecorder(server.api(), "here", "me").record(
        observed, Decision(True, "Load", "LoadFailed", "n" * 5000), "now"
    )
    (event,) = server.objects["events"]
    assert len(event) <= 253
    assert all(label and label[0].isalnum() and label[-1].isalnum() for label in event.split("."))
    await documents.close()
