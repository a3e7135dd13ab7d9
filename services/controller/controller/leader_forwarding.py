"""Leader forwarding: only the leader loads; another replica forwards a request for a load to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from controller.placement.placement import Placement
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.transport import Transport
from triptych.client.triton_errors import load_reason
from triptych.client.upstream import Upstream
from triptych.errors import LoadFailed, StageUnavailable, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.status import CODES, Relayed
from triptych.runtime.tls import UpstreamCredentials

PAUSE_S = 0.2  # between two checks for a leader
HANDOVER_S = 3.0  # a leader that refuses is retried that long: it may be handing over


class Leader(Protocol):
    """The leader of several replicas, as last observed."""

    @property
    def in_charge(self) -> bool:
        """Whether this replica leads."""
        ...

    @property
    def leader_address(self) -> str:
        """host:port of the leader; empty without one."""
        ...


class SingleReplica:
    """The leader is always this replica: there is no other."""

    in_charge = True
    leader_address = ""


class LoadForwarder:
    """Loads versions here if this replica leads, else through the leader.

    `credentials` makes those of the connection; the certificate of the leader has `server_name`, or the host of its
    address without one.
    """

    def __init__(
        self,
        placement: Placement,
        leader: Leader,
        credentials: Callable[[], UpstreamCredentials | None] = lambda: None,
        server_name: str = "",
        transport: Transport | None = None,
    ) -> None:
        self._placement, self._leader = placement, leader
        self._credentials, self._server_name, self._transport = credentials, server_name, transport
        self._upstream: Upstream | None = None

    async def ensure_loaded(
        self, model: str, version: int, call: Call, *, forwarded: bool = False, failing: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Same as `Placement.ensure_loaded`, with reasons for callers. While the leader changes, the call waits."""
        give_up = time.monotonic() + HANDOVER_S
        while not self._leader.in_charge:
            if forwarded:
                raise Unavailable("this replica of the controller does not lead; try again")
            if address := self._leader.leader_address:
                request = cp.EnsureLoadedRequest(model=model, version=version, forwarded=True, failing=failing)
                try:
                    upstream = await self._to(address)
                    reply: cp.EnsureLoadedReply = await upstream.call("EnsureLoaded", request, call)
                    return tuple(reply.predictors)
                except StageUnavailable:  # the leader died: another one will lead
                    pass
                except Relayed as error:
                    if error.code is not CODES[Unavailable] or error.retry_after_s or time.monotonic() > give_up:
                        raise
            await asyncio.sleep(call.remaining_s(PAUSE_S))
        try:
            return await self._placement.ensure_loaded(model, version, call, failing)
        except LoadFailed as error:  # the journal and the status keep the error of Triton
            raise LoadFailed(error.model, load_reason(error.reason)) from error

    async def close(self) -> None:
        if self._upstream is not None:
            await self._upstream.close()

    async def _to(self, address: str) -> Upstream:
        if self._upstream is None or self._upstream.address != address:
            old = self._upstream
            self._upstream = Upstream(
                "controller",
                address,
                CONTROLLER_SERVICE,
                relays=True,
                transport=self._transport,
                credentials=self._credentials(),
                server_name=self._server_name,
            )
            if old is not None:
                await old.close()
        return self._upstream
