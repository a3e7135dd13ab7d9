"""The Kubernetes API for a command line tool: every call blocks, whichever thread makes it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from controller.kubernetes.api import CALL_S, Api, ApiUnavailable, Json, Kind

T = TypeVar("T")


class BlockingApi:
    """An event loop in a thread of its own, and the one connection that lives in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread, api: Api) -> None:
        self._loop, self._thread, self._api = loop, thread, api

    @classmethod
    def connect(cls, kubeconfig: Path | None = None) -> BlockingApi:
        """By that file, else as kubectl finds it, else by the pod's account. Raises `OSError` without any."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="kubernetes", daemon=True)
        thread.start()
        connecting = asyncio.run_coroutine_threadsafe(Api.connect(kubeconfig or _kubeconfig()), loop)
        try:
            return cls(loop, thread, connecting.result())
        except BaseException:
            _stop(loop, thread)
            raise

    def list(self, kind: Kind) -> Sequence[Json]:
        return self._wait(self._api.list(kind))[0]

    def get(self, kind: Kind, name: str) -> Json:
        return self._wait(self._api.get(kind, name))

    def patch(self, kind: Kind, name: str, body: Json) -> Json:
        """A merge patch; with `metadata.resourceVersion` in it, only of that revision (else `ApiConflict`)."""
        return self._wait(self._api.patch(kind, name, body))

    def pods(self, namespace: str, selector: str) -> Sequence[Json]:
        """Running pods with these labels."""
        query = [("labelSelector", selector), ("fieldSelector", "status.phase=Running")]
        try:
            answer = json.loads(self._wait(self._api.text(f"/api/v1/namespaces/{namespace}/pods", query)))
        except ValueError as error:
            raise ApiUnavailable(f"the answer is no list of pods: {error}") from None
        items = answer.get("items") if isinstance(answer, dict) else None
        return items if isinstance(items, list) else []

    def page(self, namespace: str, pod: str, port: int, path: str) -> str:
        """What a pod answers to an HTTP GET, through the API server: no network way to the pod is needed."""
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
    """As kubectl finds it; None in a pod without one, which has an account of its own."""
    if named := os.environ.get("KUBECONFIG"):
        return Path(named)
    own = Path.home() / ".kube" / "config"
    return None if "KUBERNETES_SERVICE_HOST" in os.environ and not own.exists() else own
