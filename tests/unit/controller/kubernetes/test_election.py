"""One leader: which replica may take the lease, and when. Lease and clock are simulated."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

from controller.kubernetes.api import ApiConflict, ApiNotFound, ApiUnavailable
from controller.kubernetes.election import Election, LeaseTiming

TIMING = LeaseTiming(lease_duration_s=10.0, renew_deadline_s=7.0, retry_period_s=0.001)
Json = dict[str, Any]


class Store:
    """The API server's one Lease, and its rule: a writer must have read the newest version."""

    def __init__(self) -> None:
        self.lease: Json | None = None

    def write(self, revision: str | None, spec: Json) -> Json:
        if revision != (self.lease and self.lease["metadata"]["resourceVersion"]):
            raise ApiConflict("changed")
        self.lease = {"metadata": {"resourceVersion": str(int(revision or 0) + 1)}, "spec": copy.deepcopy(spec)}
        return copy.deepcopy(self.lease)


class GrpcServer:
    """Access of one replica to the store; it can be cut."""

    def __init__(self, store: Store) -> None:
        self._store, self.shut = store, False

    async def read(self) -> Json:
        self._pass()
        if self._store.lease is None:
            raise ApiNotFound("none")
        return copy.deepcopy(self._store.lease)

    async def create(self, spec: Json) -> Json:
        self._pass()
        return self._store.write(None, spec)

    async def update(self, lease: Json, spec: Json) -> Json:
        self._pass()
        return self._store.write(lease["metadata"]["resourceVersion"], spec)

    def _pass(self) -> None:
        if self.shut:
            raise ApiUnavailable("no answer")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Replica:
    """A candidate with its own access to the store, its own clock, and a record of when it led."""

    def __init__(self, store: Store, name: str) -> None:
        self.server, self.clock = GrpcServer(store), Clock()
        self.reported: list[str] = []
        self.election = Election(
            self.server,
            f"{name}_10.0.0.1:{9000 + len(name)}",
            timing=TIMING,
            on_started=lambda: self.reported.append("started"),
            on_stopped=lambda: self.reported.append("stopped"),
            clock=self.clock,
        )
        self.task = asyncio.create_task(self.election.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def kill(self) -> None:
        """Stop without releasing the lease."""
        self.server.shut = True
        await self.end()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def a_while() -> None:
    """Let time pass until every candidate has looked several times."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_one_of_two_leads_and_the_other_knows_where() -> None:
    store = Store()
    replicas = [Replica(store, "a"), Replica(store, "bb")]
    await until(lambda: any(each.election.is_leader for each in replicas))
    await until(lambda: all(each.election.leader for each in replicas))
    await a_while()
    (leader,) = [each for each in replicas if each.election.is_leader]
    (other,) = [each for each in replicas if each is not leader]
    assert (leader.reported, other.reported) == (["started"], [])
    assert other.election.leader_address == leader.election.leader_address
    assert leader.election.leader_address.startswith("10.0.0.1:900")
    assert not other.election.in_charge
    for each in replicas:
        await each.end()


async def test_a_clean_stop_releases_the_lease_before_it_expires() -> None:
    store = Store()
    first = Replica(store, "a")
    await until(lambda: first.election.is_leader)
    second = Replica(store, "bb")
    await a_while()
    await first.end()
    assert first.reported == ["started", "stopped"]
    await until(lambda: second.election.is_leader)  # its clock did not move at all
    assert store.lease is not None
    assert store.lease["spec"]["leaseTransitions"] >= 1
    await second.end()


async def test_of_a_killed_leader_the_lease_runs_out_first() -> None:
    store = Store()
    first = Replica(store, "a")
    await until(lambda: first.election.is_leader)
    second = Replica(store, "bb")
    await until(lambda: second.election.leader != "")
    await first.kill()
    await a_while()
    second.clock.now += TIMING.lease_duration_s - 0.1
    await a_while()
    assert not second.election.is_leader
    second.clock.now += 0.2
    await until(lambda: second.election.is_leader)
    await second.end()


async def test_a_renewed_lease_never_runs_out_however_late_it_is_by_the_others_clock() -> None:
    store = Store()
    first, second = Replica(store, "a"), Replica(store, "bb")
    await until(lambda: first.election.is_leader or second.election.is_leader)
    leader, other = (first, second) if first.election.is_leader else (second, first)
    for _ in range(5):
        other.clock.now += TIMING.lease_duration_s / 2
        await a_while()
    assert leader.election.is_leader
    assert other.reported == []
    await leader.end()
    await other.end()


async def test_times_written_in_the_lease_count_for_nothing() -> None:
    for year in ("1970", "2170"):
        store = Store()
        written = f"{year}-01-01T00:00:00.000000Z"
        spec = {"holderIdentity": "x_10.0.0.9:1", "leaseDurationSeconds": 10, "renewTime": written}
        store.write(None, spec | {"acquireTime": written})
        replica = Replica(store, "a")
        await a_while()
        assert not replica.election.is_leader, year
        replica.clock.now += 10.1
        await until(lambda each=replica: each.election.is_leader)  # type: ignore[misc]
        await replica.end()


async def test_a_leader_that_cannot_renew_stops_before_anybody_may_follow_and_leads_again_later() -> None:
    replica = Replica(Store(), "a")
    await until(lambda: replica.election.is_leader)
    replica.server.shut = True
    await a_while()
    assert replica.reported == ["started"]
    replica.clock.now += TIMING.renew_deadline_s + 0.1
    assert not replica.election.is_leader
    await until(lambda: replica.reported == ["started", "stopped"])
    assert replica.election.in_charge
    replica.server.shut = False
    await until(lambda: replica.reported == ["started", "stopped", "started"])
    assert replica.election.is_leader
    await replica.end()


async def test_a_process_that_was_suspended_does_not_act_as_the_leader() -> None:
    store = Store()
    replica = Replica(store, "a")
    await until(lambda: replica.election.is_leader)
    replica.clock.now += 3600  # no line of it has run since
    assert not replica.election.is_leader
    assert store.lease is not None
    store.write(store.lease["metadata"]["resourceVersion"], store.lease["spec"] | {"holderIdentity": "bb_10.0.0.2:1"})
    await until(lambda: replica.reported == ["started", "stopped"])
    assert replica.election.leader_address == "10.0.0.2:1"
    await replica.kill()
