"""The Kubernetes API for a command line tool: calls block, and any thread may make them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from controller.kubernetes.api import CALL_S, FIELD_MANAGER, Api, ApiUnavailable, Json, Kind

T = TypeVar("T")


class BlockingApi:
    """A connection to the API server in an event loop on its own thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread, api: Api) -> None:
        self._loop, self._thread, self._api = loop, thread, api

    @classmethod
    def connect(cls, kubeconfig: Path | None = None, field_manager: str = FIELD_MANAGER) -> BlockingApi:
        """Connect by that file, else as kubectl does, else by the account of the pod. Raises `OSError` without any."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="kubernetes", daemon=True)
        thread.start()
        connecting = asyncio.run_coroutine_threadsafe(Api.connect(kubeconfig or _kubeconfig(), field_manager), loop)
        try:
            return cls(loop, thread, connecting.result())
        except BaseException:
            _stop(loop, thread)
            raise

    def list(self, kind: Kind) -> Sequence[Json]:
        async def collect() -> list[Json]:
            return [each async for page, _ in self._api.pages(kind) for each in page]

        return self._wait(collect())

    def get(self, kind: Kind, name: str) -> Json:
        return self._wait(self._api.get(kind, name))

    def patch(self, kind: Kind, name: str, body: Json) -> Json:
        """Apply a merge patch. With `metadata.resourceVersion` it raises `ApiConflict` on another revision."""
        return self._wait(self._api.patch(kind, name, body))

    def pods(self, namespace: str, selector: str, *, running: bool = True) -> Sequence[Json]:
        """Pods with these labels, only those that run unless said otherwise."""
        query = [("labelSelector", selector), *([("fieldSelector", "status.phase=Running")] if running else [])]
        try:
            answer = json.loads(self._wait(self._api.text(f"/api/v1/namespaces/{namespace}/pods", query)))
        except ValueError as error:
            raise ApiUnavailable(f"the answer is no list of pods: {error}") from None
        items = answer.get("items") if isinstance(answer, dict) else None
        return items if isinstance(items, list) else []

    def page(self, namespace: str, pod: str, port: int, path: str) -> str:
        """The answer of a pod to an HTTP GET through the API server, which needs no route to the pod."""
        return self._wait(self._api.text(f"/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}"))

    def close(self) -> None:
        self._wait(self._api.close())
        _stop(self._loop, self._thread)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(CALL_S)
    loop.close()


def _kubeconfig() -> Path | None:
    """The kubeconfig that kubectl would use; None in a pod without one, which has an account."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    own = Path.home() / ".kube" / "config"
    return None if "KUBERNETES_SERVICE_HOST" in os.environ and not own.exists() else own
