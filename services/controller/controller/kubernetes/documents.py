"""The ServedModels of one release in one namespace as documents, by list and watch.

While the API server is unavailable, the last documents stay in force, and the log has one line.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from controller.catalog.served_model import (
    GROUP,
    KIND,
    PLURAL,
    VERSION,
    Document,
    DocumentFault,
    DocumentSource,
    Location,
    RecordedDigests,
    check_document,
)
from controller.catalog.shared_values import shared_aliases, shared_shares
from controller.kubernetes.api import Api, ApiError, ApiExpired, Json, Kind, part
from controller.kubernetes.backoff import exponential_backoff
from triptych.telemetry.failure_log import FailureLog

SHORTEST_S = 1.0  # a watch that ends sooner is not restarted at once
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

_ENTRIES: Mapping[str, tuple[tuple[str, type], ...]] = {  # required fields of list entries in the status
    "traffic": (("version", int), ("percent", int)),
    "aliases": (("alias", str), ("version", int)),
    "versions": (("version", int),),
    "conditions": (("type", str),),
}

log = logging.getLogger(__name__)

_WATCH = ("watch",)  # key of its failures, beside the names of objects


@dataclass(frozen=True, slots=True)
class ObservedServedModel:
    """One ServedModel as it was last observed: its document, or the faults of it.

    The status is kept as JSON: parsed, that of one version takes 3.7 KiB, as JSON 0.8 KiB (2026-11-30).
    """

    name: str
    uid: str
    items: tuple[Document | DocumentFault, ...]
    encoded_status: bytes

    @property
    def source(self) -> DocumentSource:
        return self.items[0].source

    @property
    def model(self) -> str:
        """The model that it names; '' if it names none."""
        return self.items[0].model

    @property
    def status(self) -> Json:
        """The status, parsed at each use."""
        status: Json = json.loads(self.encoded_status)
        return status


class KubernetesDocuments:
    """Watches the objects of a release; '' is the release of objects that name none.

    `on_status` gets the name of an object whose status alone changed.
    """

    def __init__(self, api: Api, namespace: str, release: str = "") -> None:
        self._api, self.kind, self._release = api, Kind(GROUP, VERSION, namespace, PLURAL), release
        self.on_status: Callable[[str], None] = lambda name: None
        self._seen: dict[str, ObservedServedModel] = {}
        self._names: dict[str, list[str]] = {}  # of the objects that declare a model, mostly one
        self._revision = ""  # from which the next watch continues; empty: list first
        self._on_change: Callable[[], None] = lambda: None
        self._listed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failures = FailureLog(log)  # by name, and of the watch

    async def start(self, on_change: Callable[[], None]) -> None:
        """Start to watch. Returns after the first list, however long it takes: none is no valid answer."""
        self._on_change = on_change
        self._task = asyncio.create_task(self._follow())
        listed = asyncio.create_task(self._listed.wait())
        await asyncio.wait({self._task, listed}, return_when=asyncio.FIRST_COMPLETED)
        listed.cancel()
        if self._task.done():
            self._task.result()

    def now(self) -> tuple[Document | DocumentFault, ...]:
        """All documents, sorted by the names of their objects."""
        return tuple(item for _, observed in sorted(self._seen.items()) for item in observed.items)

    def observed(self, name: str) -> ObservedServedModel | None:
        """An object as it was last observed; None if it is unknown."""
        return self._seen.get(name)

    def names_of(self, models: Iterable[str]) -> set[str]:
        """Names of the objects that declare these models."""
        return {name for model in models for name in self._names.get(model, ())}

    def status_written(self, name: str, uid: str, status: Json) -> None:
        """Take over a status that this process wrote, before the watch reports it."""
        observed = self._seen.get(name)
        if observed is not None and observed.uid == uid:
            self._seen[name] = replace(observed, encoded_status=_encoded(status))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        backoff = exponential_backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            began = time.monotonic()
            try:
                if not self._revision:
                    await self._list()
                    self._log_reconnected()
                await self._watch()
                await asyncio.sleep(max(0.0, SHORTEST_S - (time.monotonic() - began)))
            except ApiError as error:
                self._revision = ""
                if not isinstance(error, ApiExpired):
                    self._log_disconnected(error)
                if time.monotonic() - began > LONGEST_PAUSE_S:
                    backoff = exponential_backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
                await asyncio.sleep(next(backoff))
            except Exception:  # a fault of one object must not stop the others
                self._revision = ""
                log.exception("internal error")
                await asyncio.sleep(LONGEST_PAUSE_S)

    async def _list(self) -> None:
        read: dict[str, ObservedServedModel] = {}
        async for objects, revision in self._api.pages(self.kind):
            self._revision = revision
            ours = filter(self._is_ours, objects)
            read |= {observed.name: observed for each in ours if (observed := self._read_safely(each))}
        before, self._seen, self._names = self._seen, read, {}
        for observed in read.values():
            self._add_name(observed)
        self._listed.set()
        for name in self._seen:
            self.on_status(name)
        if _documents(before) != _documents(self._seen):
            self._on_change()

    async def _watch(self) -> None:
        """Watch until the API server ends it, which it does every minute.

        Raises `ApiExpired` if it ends at once without an event: some servers and proxies give no other sign that the
        revision is too old (kubernetes#104171).
        """
        began, is_empty = time.monotonic(), True
        async with aclosing(self._api.watch(self.kind, self._revision)) as events:
            async for event, content in events:
                is_empty = False
                metadata = part(content, "metadata")
                self._revision = str(metadata.get("resourceVersion") or self._revision)
                if event not in ("ADDED", "MODIFIED", "DELETED"):
                    continue
                if event == "DELETED" or not self._is_ours(content):
                    self._gone(str(metadata.get("name")))
                elif observed := self._read_safely(content):
                    self._changed(observed)
        if is_empty and time.monotonic() - began < SHORTEST_S:
            raise ApiExpired("the watch ended at once")

    def _is_ours(self, content: Any) -> bool:
        return _text(part(content, "spec").get("release")) == self._release

    def _gone(self, name: str) -> None:
        if self._drop(name) is not None:
            self._on_change()

    def _changed(self, now: ObservedServedModel) -> None:
        before = self._drop(now.name)
        self._seen[now.name] = now
        self._add_name(now)
        if before is not None and before.items == now.items:
            self.on_status(now.name)
        else:
            self._on_change()

    def _drop(self, name: str) -> ObservedServedModel | None:
        """Forget an object; return it as it was last observed."""
        observed = self._seen.pop(name, None)
        if observed is not None:
            names = self._names.get(observed.model, [])
            if name in names:
                names.remove(name)
            if not names:
                self._names.pop(observed.model, None)
        return observed

    def _add_name(self, observed: ObservedServedModel) -> None:
        if observed.model:
            self._names.setdefault(observed.model, []).append(observed.name)

    def _read_safely(self, content: Any) -> ObservedServedModel | None:
        """Read an object; any error is a fault of this object only. None if it is no object, which is logged once."""
        metadata = part(content, "metadata")
        name, uid = metadata.get("name"), metadata.get("uid")
        if not isinstance(name, str) or not isinstance(uid, str) or not name:
            self._leave_out(repr(name), "it has no name or no uid")
            return None
        try:
            observed = self._read(content, metadata, name, uid)
        except Exception as error:  # a fault of one object must not stop the others
            log.exception("internal error", extra={"served_model": name})
            where = f"servedmodel/{self.kind.namespace}/{name}"
            fault = DocumentFault("", f"{where}: cannot be read: {type(error).__name__}", DocumentSource(where))
            return ObservedServedModel(name, uid, (fault,), _encoded({}))
        self._failures.recovered(repr(name))
        return observed

    def _leave_out(self, name: str, why: str) -> None:
        self._failures.failed(name, "ServedModel skipped", served_model=name[:200], reason=why)

    def _read(self, content: Json, metadata: Json, name: str, uid: str) -> ObservedServedModel:
        """Read an object; of a known one, only the changed parts."""
        status = _known_status(part(content, "status"))
        generation = _number(metadata.get("generation"))
        before = self._seen.get(name)
        known = before if before is not None and before.uid == uid else None
        if known and known.source.generation == generation:
            return replace(known, encoded_status=_encoded(status))
        where = f"servedmodel/{self.kind.namespace}/{name}"
        traffic = known.source.traffic if known else _traffic(status)
        aliases = known.source.aliases if known else _aliases(status)
        recorded_digests = known.source.recorded_digests if known else _recorded_digests(status)
        created = str(metadata.get("creationTimestamp") or "")
        source = DocumentSource(where, generation, created, traffic, aliases, recorded_digests)
        document = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"name": name, "namespace": self.kind.namespace},
            "spec": content.get("spec"),
        }
        items = tuple(check_document(source, document, lambda location: _place(where, location)))
        return ObservedServedModel(name, uid, items, _encoded(status))

    def _log_disconnected(self, error: ApiError) -> None:
        """Log once that the watch is disconnected."""
        text = "the last documents stay in force" if self._listed.is_set() else "waiting for the first list"
        self._failures.failed(
            _WATCH,
            f"watch of ServedModels lost: {text}",
            namespace=self.kind.namespace,
            served_models=len(self._seen),
            reason=str(error),
        )

    def _log_reconnected(self) -> None:
        self._failures.recovered(_WATCH, "watch of ServedModels restored", served_models=len(self._seen))


def _documents(observed: Mapping[str, ObservedServedModel]) -> list[tuple[Document | DocumentFault, ...]]:
    return [each.items for _, each in sorted(observed.items())]


def _encoded(status: Json) -> bytes:
    return json.dumps(status, separators=(",", ":")).encode()


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _known_status(status: Json) -> Json:
    """The status without entries of another shape than ours, which are overwritten."""
    lists = {
        name: [each for each in entries if isinstance(each, dict) and all(isinstance(each.get(k), t) for k, t in keys)]
        for name, keys in _ENTRIES.items()
        if isinstance(entries := status.get(name), list)
    }
    return {key: value for key, value in status.items() if key not in _ENTRIES} | lists


def _traffic(status: Json) -> Mapping[int, int]:
    return shared_shares((share["version"], share["percent"]) for share in status.get("traffic") or ())


def _aliases(status: Json) -> Mapping[str, int]:
    return shared_aliases({each["alias"]: each["version"] for each in status.get("aliases") or ()})


def _recorded_digests(status: Json) -> dict[int, RecordedDigests]:
    """Recorded digests of the versions that have any."""
    versions = status.get("versions") or ()
    recorded_digests = {
        each["version"]: RecordedDigests(_text(each.get("files")), _text(each.get("contract"))) for each in versions
    }
    return {version: each for version, each in recorded_digests.items() if any(each)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _place(where: str, location: Location) -> str:
    return where
