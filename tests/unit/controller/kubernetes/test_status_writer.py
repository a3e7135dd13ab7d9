"""Status and events are written only on changes, as early as the limit allows, and again after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.catalog.entities import Catalog, DocumentResult, Model, Reason
from controller.catalog.served_model import Document
from controller.kubernetes import events as events_module
from controller.kubernetes import writer as writer_module
from controller.kubernetes.api import ApiNotFound, ApiRejected
from controller.kubernetes.backoff import TokenBucket, exponential_backoff
from controller.kubernetes.documents import KubernetesDocuments
from controller.kubernetes.events import Decision, EventRecorder
from controller.kubernetes.writer import StatusWriter
from controller.traffic.model_state import ModelState
from tests.fakes.api_server import ApiServer, Json, settle, spec


class Writing:
    """A writer that leads, over a server in memory; the test sets the model state."""

    def __init__(self, server: ApiServer) -> None:
        self.server, self.ready = server, 1
        self.in_force: dict[int, int] | None = None
        self.clock = 1000.0
        self.documents = KubernetesDocuments(server.api(), "here")
        self.recorder = EventRecorder(server.api(), "here", "controller-0", lambda: self.clock)
        self.writer = StatusWriter(server.api(), self.documents, self.recorder, self._model_state)

    async def __aenter__(self) -> Writing:
        await self.documents.start(self.read)
        self.read()
        self._task = asyncio.create_task(self.writer.run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.documents.close()

    def read(self, *problems: tuple[Reason, str]) -> None:
        """Build a catalog of the present files."""
        models, document_results = {}, {}
        for item in self.documents.now():
            assert isinstance(item, Document)
            where, traffic = item.source.where, self.in_force or item.traffic
            document_results[where] = DocumentResult(item.source, item.model, item.traffic, problems)
            models[item.model] = Model(item.model, "f", "R", b"", {}, traffic, document=where)
        self.models, self.results = models, document_results
        self.writer.set_catalog(Catalog(models, document_results=document_results))

    def writes(self) -> int:
        return self.server.calls.count("patch_status")

    def events(self) -> list[Json]:
        return list(self.server.objects["events"].values())

    def _model_state(self, name: str) -> ModelState | None:
        model = self.models.get(name)
        if model is None:
            return None
        addresses = tuple(f"triton-{n}:8001" for n in range(self.ready))
        return ModelState(model.traffic, dict.fromkeys(model.traffic, addresses), {}, {}, 1)


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[ApiServer, Writing]]:
    server = ApiServer()
    server.put("sales-de", spec("sales_de", {1: 100}))
    async with Writing(server) as writing:
        yield server, writing


async def test_a_status_is_written_once_and_its_own_echo_is_no_reason_to_write_again() -> None:
    async with scene() as (server, writing):
        assert server.status("sales-de")["summary"] == "1:100%"
        writing.read()
        writing.writer.models_changed({"sales_de"})
        await settle()
        assert writing.writes() == 1


async def test_a_new_leader_that_has_nothing_to_write_lets_other_tasks_run() -> None:
    """It held the event loop for seconds with 100,000 objects."""
    server = ApiServer()
    for number in range(2 * writer_module.YIELD_EVERY):
        server.put(f"sales-{number}", spec(f"sales_{number}", {1: 100}))
    async with Writing(server) as writing:
        while writing.writes() < len(writing.models):
            await settle()
        turns, looks = 0, list[int]()

        async def tick() -> None:
            nonlocal turns
            while len(looks) < len(writing.models):
                turns += 1
                await asyncio.sleep(0)

        def model_state(name: str) -> ModelState | None:
            looks.append(turns)
            return writing._model_state(name)

        leader = StatusWriter(server.api(), writing.documents, writing.recorder, model_state)
        leader.set_catalog(Catalog(writing.models, document_results=writing.results))
        running = asyncio.create_task(leader.run())
        async with asyncio.timeout(10):
            await tick()
        running.cancel()
        assert max(looks.count(turn) for turn in looks) <= writer_module.YIELD_EVERY
        assert writing.writes() == len(writing.models)


async def test_a_foreign_change_of_the_status_is_overwritten() -> None:
    async with scene() as (server, writing):
        await server.patch_status(writing.documents.kind, "sales-de", {"status": {"summary": "nonsense"}})
        await settle()
        assert server.status("sales-de")["summary"] == "1:100%"


async def test_a_change_of_traffic_is_written_at_once_and_added_and_removed_tritons_are_not() -> None:
    async with scene() as (server, writing):
        writing.ready = 2
        writing.writer.models_changed({"sales_de"})
        await settle()
        assert server.status("sales-de")["replicas"] == 1
        server.put("sales-de", spec("sales_de", {1: 90, 2: 10}))
        await settle()
        assert server.status("sales-de")["summary"] == "1:90% 2:10%"
        assert server.status("sales-de")["replicas"] == 2


async def test_tritons_that_came_are_written_a_little_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MINOR_S", 0.05)

    async with scene() as (server, writing):
        writing.ready = 2
        writing.writer.models_changed({"sales_de"})
        async with asyncio.timeout(10):
            while server.status("sales-de")["replicas"] != 2:
                await asyncio.sleep(0.01)


async def test_a_status_that_could_not_be_written_is_written_when_the_api_server_is_back() -> None:
    async with scene() as (server, writing):
        server.away = True
        writing.in_force = {2: 100}
        writing.read((Reason.UNKNOWN_VERSION, "no version 7"))
        await settle()
        assert server.status("sales-de")["summary"] == "1:100%"
        server.away = False
        async with asyncio.timeout(10):
            while server.status("sales-de")["summary"] == "1:100%":
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "error", [ApiNotFound("gone"), ApiRejected("may not"), KeyError("a fault of our own")], ids=repr
)
async def test_an_object_whose_status_cannot_be_written_ends_nothing(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as (server, writing):

        async def fail(*_: object) -> Json:
            raise error

        with monkeypatch.context() as patched:
            patched.setattr(server, "patch_status", fail)
            writing.read((Reason.UNKNOWN_VERSION, "no version 7"))
            await settle()
        writing.read((Reason.UNKNOWN_VERSION, "no version 8"))
        await settle()
        assert "no version 8" in server.status("sales-de")["conditions"][1]["message"]


async def test_each_decision_is_an_event_about_the_object() -> None:
    async with scene() as (server, writing):
        (event,) = writing.events()
        assert (event["type"], event["reason"], event["action"]) == ("Normal", "TrafficApplied", "ApplyTraffic")
        assert event["regarding"]["name"] == "sales-de"
        assert event["regarding"]["uid"] == "uid-sales-de"
        assert event["reportingInstance"] == "controller-0"


async def test_the_same_event_again_is_a_series_and_not_too_soon() -> None:
    async with scene() as (server, writing):
        observed = writing.documents.observed("sales-de")
        assert observed is not None
        decision = Decision(True, "Load", "LoadFailed", "version 2: " + "x" * 3000)
        for wait_s in (0.0, 1.0, events_module.QUIET_S):
            writing.clock += wait_s
            await writing.recorder.record(observed, decision, f"at {writing.clock}")
        _, event = writing.events()
        assert len(event["note"]) == events_module.MAX_NOTE
        assert event["series"] == {"count": 2, "lastObservedTime": f"at {writing.clock}"}
        assert server.calls.count("create") == 3


async def test_events_are_bounded_however_much_is_decided() -> None:
    async with scene() as (server, writing):
        observed = writing.documents.observed("sales-de")
        assert observed is not None
        for number in range(500):
            await writing.recorder.record(observed, Decision(False, "Act", "Reason", f"note {number}"), "now")
        assert len(writing.events()) == events_module.BURST
        writing.clock += 10
        for number in range(500, 600):
            await writing.recorder.record(observed, Decision(False, "Act", "Reason", f"note {number}"), "now")
        assert len(writing.events()) == events_module.BURST + 10 * events_module.PER_S


def test_a_bucket_gives_some_at_once_and_then_so_many_a_second() -> None:
    clock = [0.0]
    bucket = TokenBucket(2, 0.5, lambda: clock[0])
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 2.0]
    clock[0] = 2.0
    assert [bucket.take(), bucket.take()] == [0.0, 2.0]
    clock[0] = 1000.0
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 2.0]


def test_pauses_grow_to_a_limit() -> None:
    waits = exponential_backoff(1.0, 5.0)
    for middle in (1, 2, 4, 5, 5):
        assert 0.8 * middle <= next(waits) <= 1.2 * middle
