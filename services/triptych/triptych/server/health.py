"""grpc.health.v1 as a servicer for any of the servers.

`grpcio-health-checking` supplies the messages. Its own servicer drops all watchers of a name when one of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2 as pb

from triptych.errors import UnknownTarget
from triptych.protocol.call import Call

SERVICE = pb.DESCRIPTOR.services_by_name["Health"]
State = pb.HealthCheckResponse

LIVE = "live"  # the service name that a liveness probe sends


class Health:
    """Liveness and readiness: `live` is SERVING while the loop runs, every other name once the process is ready."""

    def __init__(self, services: Iterable[str]) -> None:
        self._names = frozenset(("", *services))
        self._ready = False
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def ready(self) -> bool:
        return self._ready

    def set_ready(self, ready: bool) -> None:
        self._ready = ready
        self._wake()

    def close(self) -> None:
        """End the streams of watchers, which are endless."""
        self._closed = True
        self._wake()

    async def check(self, request: pb.HealthCheckRequest, _call: Call) -> pb.HealthCheckResponse:
        state = self._state(request.service)
        if state == State.SERVICE_UNKNOWN:
            raise UnknownTarget(f"no service '{request.service}' here; known: {sorted(self._names)}")
        return pb.HealthCheckResponse(status=state)

    async def watch(self, request: pb.HealthCheckRequest, _call: Call) -> AsyncIterator[pb.HealthCheckResponse]:
        sent = None
        while not self._closed:
            changed, state = self._changed, self._state(request.service)
            if state != sent:
                sent = state
                yield pb.HealthCheckResponse(status=state)
            await changed.wait()

    def _state(self, service: str) -> int:
        if service == LIVE:
            return State.SERVING
        if service not in self._names:
            return State.SERVICE_UNKNOWN
        return State.SERVING if self._ready else State.NOT_SERVING

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
