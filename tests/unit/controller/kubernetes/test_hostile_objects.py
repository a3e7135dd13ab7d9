"""Objects as large, many and odd as an API server lets anybody make them; the server is a fake of its HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.served_model import Document
from controller.kubernetes.api import MAX_PAGE_BYTES, Api, ApiRejected, Kind
from controller.kubernetes.documents import KubernetesDocuments
from controller.kubernetes.events import EventRecorder
from controller.kubernetes.writer import StatusWriter
from tests.fakes.api_server import ApiServer, settle, spec

KIND = Kind("triptych.dev", "v1alpha1", "here", "servedmodels")
LABELS = {f"{'l' * 60}{number:03}": "v" * 63 for number in range(900)}
ODD = "\x00\x1b[31m\u202e\ud800\n\"'`$(x)<b>"
ANNOTATIONS = {"a": ODD * 20_000, ODD: ODD}


def served_model(name: str, **metadata: Any) -> dict[str, Any]:
    head = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": "2026-11-21"}
    return {"metadata": head | {"resourceVersion": "7"} | metadata, "spec": spec(name, {1: 100})}


@asynccontextmanager
async def api_of(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[Api]:
    """The real client of a server with these answers."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    (address,) = runner.addresses
    api = Api(ApiClient(Configuration(host=f"http://127.0.0.1:{address[1]}")))
    try:
        yield api
    finally:
        await api.close()
        await runner.cleanup()


async def test_objects_near_the_limit_of_a_server_are_read_in_small_pages() -> None:
    """Each is as large as labels make it here; a page of 500 held all of them at once."""
    asked, text = list[int](), json.dumps(served_model("NAME", labels=LABELS))

    def answer(request: web.Request) -> web.Response:
        asked.append(int(request.query["limit"]))
        first = int(request.query.get("continue", "0"))
        behind = min(first + asked[-1], 150)
        items = ",".join(text.replace("NAME", f"m{number}") for number in range(first, behind))
        metadata = json.dumps({"resourceVersion": "7", "continue": str(behind) if behind < 150 else ""})
        return web.Response(text=f'{{"metadata": {metadata}, "items": [{items}]}}')

    async with api_of(answer) as api:
        found = [items async for items, _ in api.pages(KIND)]
    assert ([len(items) for items in found], asked) == ([62, 62, 26], [500, 62, 62, 62])
    assert max(len(json.dumps(items)) for items in found) < MAX_PAGE_BYTES


@pytest.mark.parametrize("code", [413, 500])
async def test_a_status_that_does_not_fit_its_object_is_refused_and_not_tried_again(code: int) -> None:
    """It was taken for a server that is away: the writer paused, up to 30 s for each such object."""
    text = "etcdserver: request is too large"
    async with api_of(lambda request: web.json_response({"message": text}, status=code)) as api:
        with pytest.raises(ApiRejected, match=text):
            await api.patch_status(KIND, "m", {"status": {}})


async def test_odd_labels_and_annotations_are_not_kept_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = ApiServer()
    server.put("good", spec("good", {1: 100}))
    server.put("odd", spec("odd", {1: 100}), labels=LABELS, annotations=ANNOTATIONS, managedFields=[ODD] * 1000)
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    await settle()
    assert sorted(item.model for item in documents.now() if isinstance(item, Document)) == ["good", "odd"]
    observed = documents.observed("odd")
    assert len(repr(observed)) < 2000
    assert caplog.text == ""
    await documents.close()


async def test_a_status_of_thousands_of_entries_is_replaced_by_a_small_one() -> None:
    """Only the controller may write it; what another wrote is at most read once."""
    server = ApiServer()
    server.put("odd", spec("odd", {1: 100}))
    entries = [{"version": number, "files": "f" * 60, "readyOn": ["x" * 20]} for number in range(15_000)]
    shares = [{"version": number, "percent": 1} for number in range(15_000)]
    server.objects["servedmodels"]["odd"]["status"] = {"versions": entries, "traffic": shares, "other": "y" * 100_000}
    documents = KubernetesDocuments(server.api(), "here")
    await documents.start(lambda: None)
    writer = StatusWriter(server.api(), documents, EventRecorder(server.api(), "here", "me"), lambda model: None)
    writer.set_catalog(build_catalog([], documents.now(), Catalog(), undeclared="lowest"))
    writing = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        while len(server.status("odd")["versions"]) > 1:
            await asyncio.sleep(0.01)
    writing.cancel()
    assert len(json.dumps(server.status("odd"))) < 2000
    await documents.close()
