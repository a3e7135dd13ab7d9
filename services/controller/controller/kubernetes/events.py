"""Kubernetes Events: one for each decision about a ServedModel, by the difference of two statuses."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.catalog.served_model import GROUP, KIND, VERSION
from controller.kubernetes.api import Api, ApiConflict, ApiError, Kind
from controller.kubernetes.backoff import TokenBucket
from controller.kubernetes.documents import ObservedServedModel
from controller.kubernetes.status import Json, summary

BURST, PER_S = 50, 2.0
QUIET_S = 300.0  # the same event of one object is not repeated within that time
REMEMBERED = 4096
MAX_NOTE = 1024  # the limit of the API server
CONTROLLER = f"{GROUP}/controller"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decision:
    """A decision that becomes an event. `action` and `reason` are one word each."""

    warning: bool
    action: str
    reason: str
    note: str


def decisions(before: Json, after: Json) -> list[Decision]:
    """The decisions between one status and the next. Pure."""
    found = []
    old, new = _shares(before), _shares(after)
    if new and new != old:
        found.append(_traffic(old, new))
    valid, was_valid = _condition(after, "Valid"), _condition(before, "Valid")
    if valid["status"] == "False" and _differs(valid, was_valid):
        found.append(Decision(True, "Refuse", valid["reason"], valid["message"]))
    elif valid["status"] == "True" and was_valid.get("status") == "False":
        found.append(Decision(False, "Accept", valid["reason"], "the document and its versions are good again"))
    progress = _condition(after, "Progressing")
    if progress["reason"] == "LoadFailed" and _differs(progress, _condition(before, "Progressing")):
        found.append(Decision(True, "Load", "LoadFailed", progress["message"]))
    return found


def _traffic(old: dict[int, int], new: dict[int, int]) -> Decision:
    whole = next((version for version, percent in new.items() if percent == 100), None)
    if whole is not None and old and old.get(whole) != 100:
        note = f"version {whole} has all of the traffic; before: {summary(old, {})}"
        return Decision(False, "Promote", "Promoted", note)
    before = f"; before: {summary(old, {})}" if old else ""
    return Decision(False, "ApplyTraffic", "TrafficApplied", f"in force is {summary(new, {})}{before}")


def _differs(now: Json, before: Json) -> bool:
    return any(now[key] != before.get(key) for key in ("status", "reason", "message"))


def _shares(status: Json) -> dict[int, int]:
    return {share["version"]: share["percent"] for share in status.get("traffic") or ()}


def _condition(status: Json, kind: str) -> dict[str, Any]:
    return next((dict(each) for each in status.get("conditions") or () if each["type"] == kind), {})


class EventRecorder:
    """Writes events at a bounded rate. An event that cannot be written is only logged."""

    def __init__(self, api: Api, namespace: str, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._kind = api, Kind("events.k8s.io", "v1", namespace, "events")
        self._instance, self._clock = instance, clock
        self._bucket = TokenBucket(BURST, PER_S, clock)
        self._last_written: OrderedDict[str, tuple[float, int]] = OrderedDict()  # time of the last one, and count

    async def record(self, observed: ObservedServedModel, decision: Decision, now: str) -> None:
        """Log the decision and write an event; a repeated event becomes a series."""
        facts = {
            "served_model": observed.name,
            "model": observed.model,
            "action": decision.action,
            "note": decision.note,
        }
        log.log(logging.WARNING if decision.warning else logging.INFO, decision.reason, extra=facts)
        note = decision.note if len(decision.note) <= MAX_NOTE else f"{decision.note[: MAX_NOTE - 4]} ..."
        name = f"{observed.name[:240].rstrip('-.')}.{_digest(observed.uid, decision.reason, note)}"
        last, count = self._last_written.get(name, (-QUIET_S, 0))
        if self._clock() - last < QUIET_S or self._bucket.take():
            return
        try:
            count = await self._write(name, observed, decision, note, now, count)
        except ApiError as error:
            log.warning("event not written", extra=facts | {"reason": str(error)})
            return
        self._last_written[name] = (self._clock(), count)
        self._last_written.move_to_end(name)
        if len(self._last_written) > REMEMBERED:
            self._last_written.popitem(last=False)

    async def _write(
        self, name: str, observed: ObservedServedModel, decision: Decision, note: str, now: str, count: int
    ) -> int:
        """Write an event or its series. Returns the count of the event."""
        try:
            await self._api.create(self._kind, self._event(name, observed, decision, note, now))
            return 1
        except ApiConflict:
            series = {"count": max(count, 1) + 1, "lastObservedTime": now}
            await self._api.patch(self._kind, name, {"series": series})
            return max(count, 1) + 1

    def _event(self, name: str, observed: ObservedServedModel, decision: Decision, note: str, now: str) -> Json:
        regarding = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": observed.name, "uid": observed.uid}
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self._kind.namespace},
            "regarding": regarding | {"namespace": self._kind.namespace},
            "eventTime": now,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "type": "Warning" if decision.warning else "Normal",
            "action": decision.action,
            "reason": decision.reason,
            "note": note,
        }


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
