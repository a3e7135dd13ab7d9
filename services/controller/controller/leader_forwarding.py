"""Loads are the leader's: another replica passes a request for one on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from controller.placement.placement import Residency
from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.client.triton_errors import load_reason
from triptych.client.upstream import Upstream
from triptych.errors import LoadFailed, StageUnavailable, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.status import CODES, Relayed
from triptych.runtime.tls import UpstreamCredentials

PAUSE_S = 0.2  # between two looks for a leader, while it changes
HANDOVER_S = 3.0  # a leader that says that it cannot is tried again that long: perhaps it only hands over


class Leader(Protocol):
    """Who of several replicas leads, as last heard."""

    @property
    def in_charge(self) -> bool:
        """Whether this one does."""
        ...

    @property
    def leader_address(self) -> str:
        """host:port; empty when nobody does."""
        ...


class Alone:
    """The only replica."""

    in_charge = True
    leader_address = ""


class Loads:
    """Versions made ready by whoever leads.

    `credentials` makes those for the way to it; its certificate bears `server_name`, or else the host of its address.
    """

    def __init__(
        self,
        residency: Residency,
        leader: Leader,
        credentials: Callable[[], UpstreamCredentials | None] = lambda: None,
        server_name: str = "",
        transport: str = "http2",
    ) -> None:
        self._residency, self._leader = residency, leader
        self._credentials, self._server_name, self._transport = credentials, server_name, transport
        self._upstream: Upstream | None = None

    async def ensure(
        self, model: str, version: int, call: Call, *, forwarded: bool = False, failing: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """As `Residency.ensure_loaded`, with reasons for callers. While the leader changes the call waits."""
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
                except StageUnavailable:  # it died: another will lead
                    pass
                except Relayed as error:
                    if error.code is not CODES[Unavailable] or error.retry_after_s or time.monotonic() > give_up:
                        raise
            await asyncio.sleep(call.remaining_s(PAUSE_S))
        try:
            return await self._residency.ensure_loaded(model, version, call, failing)
        except LoadFailed as error:  # the journal and the status have Triton's words
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
