"""ServedModels followed by list and watch: changes are reported, and objects stay in force without the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from controller.catalog.served_model import Document, DocumentFault, RecordedDigests
from controller.kubernetes import documents as documents_module
from controller.kubernetes.api import ApiExpired, ApiUnavailable, Kind
from controller.kubernetes.documents import KubernetesDocuments
from tests.fakes.api_server import ApiServer, settle, spec


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHORTEST_S", "FIRST_PAUSE_S", "LONGEST_PAUSE_S"):
        monkeypatch.setattr(documents_module, name, 0.001)


class Followed:
    """Documents of a server, and how often they changed."""

    def __init__(self, server: ApiServer, release: str = "") -> None:
        self.documents = KubernetesDocuments(server.api(), "here", release)
        self.changes, self.statuses = 0, list[str]()
        self.documents.on_status = self.statuses.append

    async def start(self) -> None:
        await self.documents.start(self._changed)
        await settle()
        self.changes, self.statuses[:] = 0, []

    def _changed(self) -> None:
        self.changes += 1

    def shares(self) -> dict[str, dict[int, int]]:
        items = (item for item in self.documents.now() if isinstance(item, Document))
        return {item.model: dict(item.traffic) for item in items}


async def until_called(server: ApiServer, call: str, times: int = 1) -> None:
    async with asyncio.timeout(10):
        while server.calls.count(call) < times:
            await asyncio.sleep(0.001)
    await settle()


async def test_objects_are_documents_and_changes_are_reported() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    followed = Followed(server)
    await followed.start()
    (document,) = followed.documents.now()
    assert document.source.where == "servedmodel/here/sales-de"
    server.put("sales-fr", spec("sales_fr", {1: 100}))
    server.put("sales-de", spec("sales_de", {1: 90, 2: 10}))
    await settle()
    assert followed.shares() == {"sales_de": {1: 90, 2: 10}, "sales_fr": {1: 100}}
    server.delete("sales-fr")
    await settle()
    assert followed.shares() == {"sales_de": {1: 90, 2: 10}}
    assert followed.changes == 3
    await followed.documents.close()


@pytest.mark.parametrize(
    "odd",
    [
        {"traffic": [{"percent": 100}]},
        {"traffic": [{}], "versions": [{}]},
        {"versions": [{"files": "sha256:1"}, {"version": 1, "files": "sha256:1"}]},
        {"traffic": "none"},
        {"versions": 7},
    ],
)
async def test_an_object_with_an_odd_status_keeps_no_other_from_being_followed(odd: dict[str, object]) -> None:
    server = ApiServer()
    for model in ("sales_de", "sales_fr"):
        server.put(model.replace("_", "-"), spec(model, {1: 100}))
    server.objects["servedmodels"]["sales-de"]["status"] = odd
    followed = Followed(server)
    await followed.start()
    assert followed.shares()["sales_fr"] == {1: 100}
    assert len(followed.documents.now()) == 2
    await followed.documents.close()


async def test_the_digests_of_a_status_are_read_back() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    versions = [{"version": 1, "files": "sha256:1", "contract": "sha256:2"}, {"version": 2}]
    server.objects["servedmodels"]["sales-de"]["status"] = {"versions": versions}
    followed = Followed(server)
    await followed.start()
    (document,) = followed.documents.now()
    assert document.source.recorded_digests == {1: RecordedDigests("sha256:1", "sha256:2")}
    await followed.documents.close()


async def test_each_release_follows_its_own_objects_and_none_of_another() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    server.put("blue-sales-de", spec("sales_de", {2: 100}) | {"release": "blue"})
    both = [Followed(server), Followed(server, "blue")]
    for each in both:
        await each.start()
    assert [each.shares() for each in both] == [{"sales_de": {1: 100}}, {"sales_de": {2: 100}}]
    assert [each.documents.names_of(["sales_de"]) for each in both] == [{"sales-de"}, {"blue-sales-de"}]
    server.put("sales-fr", spec("sales_fr", {1: 100}))
    await server.patch_status(both[0].documents.kind, "sales-de", {"status": {"summary": "1:100%"}})
    server.delete("sales-fr")
    await settle()
    assert [(each.changes, each.statuses) for each in both] == [(2, ["sales-de"]), (0, [])]
    server.delete("blue-sales-de")
    await settle()
    assert [each.shares() for each in both] == [{"sales_de": {1: 100}}, {}]
    for each in both:
        await each.documents.close()


async def test_an_object_that_came_to_another_release_is_gone() -> None:
    """The definition forbids it, but an older one does not."""
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    followed = Followed(server)
    await followed.start()
    server.put("sales-de", spec("sales_de", {1: 100}) | {"release": "blue"})
    await settle()
    assert (followed.shares(), followed.changes) == ({}, 1)
    await followed.documents.close()


async def test_an_object_with_an_odd_release_is_a_fault_of_the_release_without_a_name() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}) | {"release": 7})
    followed = Followed(server)
    await followed.start()
    (fault,) = followed.documents.now()
    assert isinstance(fault, DocumentFault)
    assert "spec.release" in fault.text
    await followed.documents.close()


async def test_a_change_of_status_alone_is_no_change_of_the_documents() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    followed = Followed(server)
    await followed.start()
    await server.patch_status(followed.documents.kind, "sales-de", {"status": {"summary": "1:100%"}})
    await settle()
    assert (followed.changes, followed.statuses) == (0, ["sales-de"])
    observed = followed.documents.observed("sales-de")
    assert observed is not None
    assert observed.status == {"summary": "1:100%"}
    await followed.documents.close()


async def test_the_objects_of_a_model_are_known_by_its_name() -> None:
    server = ApiServer()
    for name in ("de", "second-de", "fr"):
        server.put(name, spec(f"sales_{name[-2:]}", {1: 100}))
    followed = Followed(server)
    await followed.start()
    assert followed.documents.names_of(["sales_de", "sales_fr", "unknown"]) == {"de", "second-de", "fr"}
    server.put("second-de", spec("sales_it", {1: 100}))
    server.delete("fr")
    await settle()
    names = [followed.documents.names_of([f"sales_{country}"]) for country in ("de", "it", "fr")]
    assert names == [{"de"}, {"second-de"}, set()]


async def test_what_an_older_definition_accepted_is_a_fault_of_its_model() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 99}))
    followed = Followed(server)
    await followed.start()
    (fault,) = followed.documents.now()
    assert isinstance(fault, DocumentFault)
    assert fault.model == "sales_de"
    assert fault.text == "servedmodel/here/sales-de: spec.traffic: percents must sum to 100, got 99"
    await followed.documents.close()


@pytest.mark.parametrize("error", [ApiUnavailable("connection reset"), ApiExpired("too old resource version")])
async def test_after_a_watch_that_broke_or_is_too_old_all_are_listed_again(error: Exception) -> None:
    server = ApiServer()
    followed = Followed(server)
    await followed.start()
    server.break_watches(error)
    server.put("sales-de", spec("sales_de", {1: 100}))
    await until_called(server, "watch", times=2)
    assert followed.shares() == {"sales_de": {1: 100}}
    await followed.documents.close()


class Silent(ApiServer):
    """An API server that ends each watch from an old revision at once, and does not say why."""

    async def watch(self, kind: Kind, revision: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        self._pass("watch")
        if revision == str(self.revision):
            await asyncio.sleep(0.05)
            yield "BOOKMARK", {"metadata": {"resourceVersion": revision}}


async def test_after_a_watch_that_ends_at_once_all_are_listed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """kubernetes/kubernetes#104171"""
    monkeypatch.setattr(documents_module, "SHORTEST_S", 0.2)
    server = Silent()
    followed = Followed(server)
    await followed.start()
    server.put("sales-de", spec("sales_de", {1: 100}))
    await until_called(server, "list", times=2)
    await settle()
    assert followed.shares() == {"sales_de": {1: 100}}
    await until_called(server, "watch", times=4)
    assert server.calls.count("list") == 2, "a watch with events continues"
    await followed.documents.close()


async def test_while_the_api_server_is_unreachable_the_last_documents_stay_and_it_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        server = ApiServer()
        server.put("sales-de", spec("sales_de", {1: 100}))
        followed = Followed(server)
        await followed.start()
        server.away = True
        server.break_watches(ApiUnavailable("connection reset"))
        await until_called(server, "list", times=5)
        assert followed.shares() == {"sales_de": {1: 100}}
        server.away = False
        await until_called(server, "watch", times=2)
        await followed.documents.close()
    reported = [record.getMessage() for record in caplog.records if "ServedModels" in record.getMessage()]
    assert reported == [
        "watch of ServedModels lost: the last documents stay in force",
        "watch of ServedModels restored",
    ]


async def test_nothing_is_served_before_the_first_list() -> None:
    server = ApiServer()
    server.away = True
    server.put("sales-de", spec("sales_de", {1: 100}))
    followed = Followed(server)
    starting = asyncio.create_task(followed.documents.start(lambda: None))
    await until_called(server, "list", times=3)
    assert not starting.done()
    server.away = False
    await asyncio.wait_for(starting, 10)
    assert followed.shares() == {"sales_de": {1: 100}}
    await followed.documents.close()


async def test_traffic_and_aliases_of_the_status_are_what_was_in_force_before_this_process() -> None:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    aliases = [{"alias": "production", "version": 1}, {"alias": 7, "version": 1}, {"alias": "odd"}]
    shares = [{"version": 1, "percent": 80}, {"version": 2, "percent": 20}]
    in_force = {"status": {"traffic": shares, "aliases": aliases}}
    followed = Followed(server)
    await server.patch_status(followed.documents.kind, "sales-de", in_force)
    await followed.start()
    server.put("sales-de", spec("sales_de", {2: 100}))
    await settle()
    (document,) = followed.documents.now()
    assert (document.source.generation, document.source.traffic) == (2, {1: 80, 2: 20})
    assert document.source.aliases == {"production": 1}
    await followed.documents.close()
