"""Writes the status of every ServedModel that changed. Only the leader writes.

A change of the traffic or of a condition is written at once. Fields that change with every load (replicas, addresses of
predictors) are written at most once in `MINOR_S` for each object.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable

from controller.catalog.entities import Catalog
from controller.kubernetes.api import Api, ApiError, ApiNotFound, ApiUnavailable
from controller.kubernetes.backoff import TokenBucket, exponential_backoff
from controller.kubernetes.documents import KubernetesDocuments, ObservedServedModel
from controller.kubernetes.events import EventRecorder, decisions
from controller.kubernetes.status import Json, dated, status_of
from controller.kubernetes.timestamps import now_micro, now_rfc3339
from controller.traffic.model_state import ModelState

MINOR_S = 10.0
BURST, PER_S = 50, 20.0
YIELD_EVERY = 20  # objects: a new leader looks at all of them, and most need no write
MINOR = ("replicas", "desiredReplicas", "versions")

log = logging.getLogger(__name__)


class StatusWriter:
    """Queues the objects whose status may have changed; `run` writes them while this process leads."""

    def __init__(
        self,
        api: Api,
        documents: KubernetesDocuments,
        recorder: EventRecorder,
        model_state: Callable[[str], ModelState | None],
    ) -> None:
        self._api, self._documents, self._recorder, self._model_state = api, documents, recorder, model_state
        self._catalog = Catalog()
        self._pending: dict[str, None] = {}  # names, in the order of their changes
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._wrote_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._bucket = TokenBucket(BURST, PER_S)
        documents.on_status = lambda name: self._enqueue((name,))

    def set_catalog(self, catalog: Catalog) -> None:
        """Queue the documents whose result changed."""
        before, self._catalog = self._catalog, catalog
        known = before.document_results
        changed = {
            where
            for where, result in catalog.document_results.items()
            if (last := known.get(where)) is not result and last != result
        }
        self._enqueue(where.rpartition("/")[2] for where in changed)
        self._wrote_at = {name: at for name, at in self._wrote_at.items() if self._documents.observed(name)}

    def models_changed(self, models: set[str]) -> None:
        """Queue the objects of models whose state changed."""
        self._enqueue(self._documents.names_of(models))

    async def run(self) -> None:
        """Write until cancelled. It starts with all objects: another leader may have missed some."""
        self._enqueue(where.rpartition("/")[2] for where in self._catalog.document_results)
        backoff = exponential_backoff(0.5, 30.0)
        for number in itertools.count(1):
            if not number % YIELD_EVERY:
                await asyncio.sleep(0)
            while not self._pending:
                self._wake.clear()
                await self._wake.wait()
            name = next(iter(self._pending))
            del self._pending[name]
            try:
                await self._update(name)
                backoff = exponential_backoff(0.5, 30.0)
            except ApiNotFound:
                continue  # deleted meanwhile
            except ApiUnavailable as error:
                self._pending[name] = None
                log.warning("status not written", extra={"served_model": name, "reason": str(error)})
                await asyncio.sleep(next(backoff))
            except ApiError as error:
                log.error("status not written", extra={"served_model": name, "reason": str(error)})
            except Exception:
                log.exception("internal error", extra={"served_model": name})

    def _enqueue(self, names: Iterable[str]) -> None:
        self._pending.update(dict.fromkeys(names))
        self._wake.set()

    async def _update(self, name: str) -> None:
        """Write the status of one object if it changed."""
        observed = self._documents.observed(name)
        result = self._catalog.document_results.get(observed.source.where) if observed else None
        if observed is None or result is None:
            return
        status = status_of(result, self._catalog, self._model_state(result.model))
        status = dated(status, observed.status, now_rfc3339())
        if status == observed.status:
            return
        if _major(status) == _major(observed.status) and (wait_s := self._wait_s(name)) > 0:
            self._update_later(name, wait_s)
            return
        while wait_s := self._bucket.take():
            await asyncio.sleep(wait_s)
        await self._write(observed, status)

    async def _write(self, observed: ObservedServedModel, status: Json) -> None:
        """Write the status, then the events: a lost event does no harm."""
        await self._api.patch_status(self._documents.kind, observed.name, {"status": status})
        self._documents.status_written(observed.name, observed.uid, status)
        self._wrote_at[observed.name] = asyncio.get_running_loop().time()
        for decision in decisions(observed.status, status):
            await self._recorder.record(observed, decision, now_micro())

    def _wait_s(self, name: str) -> float:
        wrote_at = self._wrote_at.get(name)
        return 0.0 if wrote_at is None else wrote_at + MINOR_S - asyncio.get_running_loop().time()

    def _update_later(self, name: str, wait_s: float) -> None:
        def update() -> None:
            del self._later[name]
            self._enqueue((name,))

        if name not in self._later:
            self._later[name] = asyncio.get_running_loop().call_later(wait_s, update)


def _major(status: Json) -> Json:
    return {key: value for key, value in status.items() if key not in MINOR}
