"""A Kubernetes API server in memory, for failures that a real one does not show on request."""

from __future__ import annotations

import asyncio
import copy
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any, cast

from controller.kubernetes.api import Api, ApiConflict, ApiNotFound, ApiUnavailable, Kind

Json = dict[str, Any]


class ApiServer:
    """Objects of every kind by name, as `controller.kubernetes.api.Api` sees them."""

    def __init__(self) -> None:
        self.objects: defaultdict[str, dict[str, Json]] = defaultdict(dict)
        self.calls: list[str] = []
        self.away = False
        self.revision = 1
        self._watchers: list[asyncio.Queue[tuple[str, Json] | Exception]] = []

    def api(self) -> Api:
        """This server with the type of its client."""
        return cast(Api, self)

    def put(self, name: str, spec: Json, **metadata: Any) -> None:
        """Apply a ServedModel as another client."""
        old = self.objects["servedmodels"].get(name)
        generation = old["metadata"]["generation"] + (old["spec"] != spec) if old else 1
        head = {"name": name, "uid": f"uid-{name}", "generation": generation, "creationTimestamp": "2026-11-21"}
        new = {"metadata": head | metadata, "spec": spec, "status": (old or {}).get("status", {})}
        self._changed("MODIFIED" if old else "ADDED", name, new)

    def delete(self, name: str) -> None:
        gone = self.objects["servedmodels"].pop(name)
        self._tell("DELETED", gone)

    def status(self, name: str) -> Json:
        found: Json = self.objects["servedmodels"][name].get("status", {})
        return found

    def break_watches(self, error: Exception) -> None:
        """End every open watch with this error."""
        for watcher in self._watchers:
            watcher.put_nowait(error)

    async def pages(self, kind: Kind) -> AsyncGenerator[tuple[list[Json], str], None]:
        """All objects, by pages of two."""
        self._pass("list")
        objects, revision = copy.deepcopy(list(self.objects[kind.plural].values())), str(self.revision)
        for start in range(0, max(1, len(objects)), 2):
            yield objects[start : start + 2], revision

    async def watch(self, kind: Kind, revision: str) -> AsyncGenerator[tuple[str, Json], None]:
        self._pass("watch")
        queue: asyncio.Queue[tuple[str, Json] | Exception] = asyncio.Queue()
        self._watchers.append(queue)
        try:
            while True:
                event = await queue.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self._watchers.remove(queue)

    async def create(self, kind: Kind, body: Json) -> Json:
        self._pass("create")
        if body["metadata"]["name"] in self.objects[kind.plural]:
            raise ApiConflict("exists")
        self.objects[kind.plural][body["metadata"]["name"]] = copy.deepcopy(body)
        return body

    async def patch(self, kind: Kind, name: str, body: Json) -> Json:
        self._pass("patch")
        self.objects[kind.plural][name] |= copy.deepcopy(body)
        return body

    async def patch_status(self, kind: Kind, name: str, body: Json) -> Json:
        self._pass("patch_status")
        if name not in self.objects[kind.plural]:
            raise ApiNotFound(name)
        self._changed("MODIFIED", name, self.objects[kind.plural][name] | copy.deepcopy(body))
        return body

    def _changed(self, event: str, name: str, new: Json) -> None:
        self.revision += 1
        new["metadata"]["resourceVersion"] = str(self.revision)
        self.objects["servedmodels"][name] = new
        self._tell(event, new)

    def _tell(self, event: str, content: Json) -> None:
        for watcher in self._watchers:
            watcher.put_nowait((event, copy.deepcopy(content)))

    def _pass(self, call: str) -> None:
        self.calls.append(call)
        if self.away:
            raise ApiUnavailable("no answer")


def spec(model: str, shares: dict[int, int]) -> Json:
    return {"model": model, "traffic": [{"version": v, "percent": percent} for v, percent in shares.items()]}


async def settle() -> None:
    """Run all tasks that do not wait for an event."""
    for _ in range(50):
        await asyncio.sleep(0)
