"""Leader election among the replicas by a Lease, on the monotonic clock of this process.

A lease has expired if this process has not seen it change for its duration; the times in it are for people only.
Therefore no clock that jumps, here or elsewhere, makes two leaders or none.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from controller.kubernetes.api import Api, ApiConflict, ApiError, ApiNotFound, Json, Kind, part
from controller.kubernetes.timestamps import now_micro
from triptych.telemetry.failure_log import FailureLog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTiming:
    """The durations of the election, named as in client-go.

    `lease_duration_s`: others take over that long after the last renewal. `renew_deadline_s`: a leader that could not
    renew for that long stops; shorter than the lease. `retry_period_s`: between two attempts, of leader and followers.
    """

    lease_duration_s: float = 10.0
    renew_deadline_s: float = 7.0
    retry_period_s: float = 1.5


class Lock(Protocol):
    """The storage of the lease."""

    async def read(self) -> Json:
        """Read the Lease. Raises `ApiNotFound`."""
        ...

    async def create(self, spec: Json) -> Json:
        """Create the Lease. Raises `ApiConflict` if it exists."""
        ...

    async def update(self, lease: Json, spec: Json) -> Json:
        """Update the Lease. Raises `ApiConflict` if it changed since it was read."""
        ...


class LeaseLock:
    """A Lease of this namespace."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self._api, self._name = api, name
        self._kind = Kind("coordination.k8s.io", "v1", namespace, "leases")

    async def read(self) -> Json:
        return await self._api.get(self._kind, self._name)

    async def create(self, spec: Json) -> Json:
        head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self._name}}
        return await self._api.create(self._kind, head | {"spec": spec})

    async def update(self, lease: Json, spec: Json) -> Json:
        return await self._api.replace(self._kind, self._name, lease | {"spec": spec})


class Election:
    """Takes part in the election until cancelled; a clean end releases the lease at once.

    `identity` is `<name>_<host:port>`: the leader, and the address at which the others reach it.
    """

    def __init__(
        self,
        lock: Lock,
        identity: str,
        *,
        timing: LeaseTiming | None = None,
        on_started: Callable[[], None] = lambda: None,
        on_stopped: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock, self._identity, self._timing, self._clock = lock, identity, timing or LeaseTiming(), clock
        self._on_started, self._on_stopped = on_started, on_stopped
        self._lease: Json = {}  # as last read or written
        self._changed_at = clock()  # when this process saw it change
        self._renewed_at: float | None = None  # start of the last successful renewal
        self._failures = FailureLog(log)

    @property
    def is_leader(self) -> bool:
        """Whether this replica leads and no other one can lead now."""
        renewed_at = self._renewed_at if self.leader == self._identity else None
        return renewed_at is not None and self._clock() < renewed_at + self._timing.renew_deadline_s

    @property
    def in_charge(self) -> bool:
        """Whether this replica leads, or was the last known leader.

        While the API server is unavailable nobody can take over. Work that two replicas may do at once continues then.
        """
        return self.leader == self._identity

    @property
    def leader(self) -> str:
        """The identity of the last known leader; empty without one."""
        return str(_spec(self._lease).get("holderIdentity") or "")

    @property
    def leader_address(self) -> str:
        """The address of the last known leader; empty without one.

        It stays while the API server is unavailable: nobody can have taken over.
        """
        _, mark, address = self.leader.rpartition("_")
        return address if mark and ":" in address else ""  # a foreign process can hold the lease

    async def run(self) -> None:
        """Follow and lead in turn until cancelled."""
        try:
            while True:
                while not await self._try_to_hold():
                    await asyncio.sleep(self._timing.retry_period_s * random.uniform(0.8, 1.2))
                log.info("leadership acquired", extra={"identity": self._identity})
                self._on_started()
                try:
                    await self._lead()
                finally:
                    self._on_stopped()
                self._renewed_at = None
                log.warning("leadership lost", extra={"leader": self.leader})
        finally:
            await asyncio.shield(self._release())

    async def _lead(self) -> None:
        """Renew the lease. Returns if it was not renewed in time, or if another replica holds it."""
        while self.is_leader:
            await asyncio.sleep(self._timing.retry_period_s)
            left_s = (self._renewed_at or 0.0) + self._timing.renew_deadline_s - self._clock()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(left_s, 0.0)):
                    while not await self._try_to_hold() and self.is_leader:
                        await asyncio.sleep(self._timing.retry_period_s / 4)
            if self.leader not in ("", self._identity):
                return

    async def _try_to_hold(self) -> bool:
        """Acquire or renew the lease if that is allowed. Returns whether this replica holds it."""
        began = self._clock()
        try:
            held = await self._acquire_or_renew()
        except ApiConflict:
            return False  # another replica was first; the next read shows which
        except ApiError as error:
            self._failures.failed("lease", "lease unavailable", reason=str(error), leader=self.leader)
            return False
        self._failures.recovered("lease")
        if held:
            self._renewed_at = began
        return held

    async def _acquire_or_renew(self) -> bool:
        try:
            self._observe(await self._lock.read())
        except ApiNotFound:
            self._observe(await self._lock.create(self._our_spec()))
            return True
        if self.leader not in ("", self._identity) and not self._is_over():
            return False
        self._observe(await self._lock.update(self._lease, self._our_spec()))
        return True

    def _observe(self, lease: Json) -> None:
        if _spec(lease) != _spec(self._lease):
            if (leader := str(_spec(lease).get("holderIdentity") or "")) != self.leader:
                log.info("leader changed", extra={"leader": leader or "nobody"})
            self._changed_at = self._clock()
        self._lease = lease

    def _is_over(self) -> bool:
        duration_s = _number(_spec(self._lease), "leaseDurationSeconds") or self._timing.lease_duration_s
        return self._clock() >= self._changed_at + duration_s

    def _our_spec(self) -> Json:
        """The spec of the lease held by this replica."""
        old, now = _spec(self._lease), now_micro()
        ours = old.get("holderIdentity") == self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._timing.lease_duration_s)),
            "acquireTime": (old.get("acquireTime") if ours else None) or now,
            "renewTime": now,
            "leaseTransitions": _number(old, "leaseTransitions") + (0 if ours or not old else 1),
        }

    async def _release(self) -> None:
        """Release the lease, so that the next leader need not wait until it expires."""
        if self._renewed_at is None or self.leader != self._identity:
            return
        self._renewed_at = None
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self._timing.retry_period_s * 2):
                self._observe(await self._lock.read())  # a cancelled renewal may have succeeded
                if self.leader == self._identity:
                    free = {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now_micro()}
                    self._observe(await self._lock.update(self._lease, _spec(self._lease) | free))
                    log.info("lease released")


def _spec(lease: Json) -> Json:
    """The spec of a lease; empty if it has another shape, so that nobody holds it."""
    return part(lease, "spec")


def _number(spec: Json, name: str) -> int:
    """A field of the spec; 0 if it is no whole number above 0."""
    value = spec.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
