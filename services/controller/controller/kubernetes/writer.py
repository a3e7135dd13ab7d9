"""Writes the status of every ServedModel, by the leader alone, and only what changed.

A change of the traffic or of a condition is written at once. What comes and goes with every load (copies, the
addresses that have a version ready) is written at most once in `MINOR_S` for each object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from controller.catalog.builder import Catalog
from controller.kubernetes.api import Api, ApiError, Away, Missing
from controller.kubernetes.backoff import Bucket, pauses
from controller.kubernetes.documents import KubernetesDocuments, Seen
from controller.kubernetes.events import Recorder, decisions
from controller.kubernetes.status import Json, dated, status_of
from controller.traffic.model_state import Situation

MINOR_S = 10.0
AT_ONCE, PER_S = 50, 20.0
MINOR = ("copies", "copiesWanted", "versions")

log = logging.getLogger(__name__)


def now_rfc3339() -> str:
    """The time as conditions have it: in seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """The time as events and leases have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class StatusWriter:
    """Knows which objects may need another status; `run` writes them for as long as this process leads."""

    def __init__(
        self,
        api: Api,
        documents: KubernetesDocuments,
        recorder: Recorder,
        situation: Callable[[str], Situation | None],
    ) -> None:
        self._api, self._documents, self._recorder, self._situation = api, documents, recorder, situation
        self._catalog = Catalog()
        self._waiting: dict[str, None] = {}  # names, in the order in which they came
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._wrote_at: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._bucket = Bucket(AT_ONCE, PER_S)
        documents.on_status = lambda name: self._touch((name,))

    def set_catalog(self, catalog: Catalog) -> None:
        """What became of the documents."""
        before, self._catalog = self._catalog, catalog
        changed = {where for where, verdict in catalog.verdicts.items() if before.verdicts.get(where) != verdict}
        self._touch(where.rpartition("/")[2] for where in changed)
        self._wrote_at = {name: at for name, at in self._wrote_at.items() if self._documents.seen(name)}

    def models_changed(self, models: set[str]) -> None:
        """These models are served otherwise than before."""
        self._touch(self._documents.about(models))

    async def run(self) -> None:
        """Until cancelled. Begins with all: another leader may have left something out."""
        self._touch(where.rpartition("/")[2] for where in self._catalog.verdicts)
        waits = pauses(0.5, 30.0)
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            name = next(iter(self._waiting))
            del self._waiting[name]
            try:
                await self._look(name)
                waits = pauses(0.5, 30.0)
            except Missing:
                continue  # deleted meanwhile
            except Away as error:
                self._waiting[name] = None
                log.warning("status not written", extra={"served_model": name, "reason": str(error)})
                await asyncio.sleep(next(waits))
            except ApiError as error:
                log.error("status not written", extra={"served_model": name, "reason": str(error)})
            except Exception:
                log.exception("internal error", extra={"served_model": name})

    def _touch(self, names: Iterable[str]) -> None:
        self._waiting.update(dict.fromkeys(names))
        self._wake.set()

    async def _look(self, name: str) -> None:
        """Writes the status of one object if it says something else than before."""
        seen = self._documents.seen(name)
        verdict = self._catalog.verdicts.get(seen.origin.where) if seen else None
        if seen is None or verdict is None:
            return
        status = status_of(verdict, self._catalog, self._situation(verdict.model))
        status = dated(status, seen.status, now_rfc3339())
        if status == seen.status:
            return
        if _major(status) == _major(seen.status) and (wait_s := self._wait_s(name)) > 0:
            self._look_later(name, wait_s)
            return
        while wait_s := self._bucket.take():
            await asyncio.sleep(wait_s)
        await self._write(seen, status)

    async def _write(self, seen: Seen, status: Json) -> None:
        """The status first: it is the truth, and an event that is lost with the process does no harm."""
        await self._api.patch_status(self._documents.kind, seen.name, {"status": status})
        self._documents.wrote(seen.name, seen.uid, status)
        self._wrote_at[seen.name] = asyncio.get_running_loop().time()
        for decision in decisions(seen.status, status):
            await self._recorder.record(seen, decision, now_micro())

    def _wait_s(self, name: str) -> float:
        wrote_at = self._wrote_at.get(name)
        return 0.0 if wrote_at is None else wrote_at + MINOR_S - asyncio.get_running_loop().time()

    def _look_later(self, name: str, wait_s: float) -> None:
        def look() -> None:
            del self._later[name]
            self._touch((name,))

        if name not in self._later:
            self._later[name] = asyncio.get_running_loop().call_later(wait_s, look)


def _major(status: Json) -> Json:
    return {key: value for key, value in status.items() if key not in MINOR}
