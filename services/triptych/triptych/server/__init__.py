"""gRPC servers in front of a servicer: they decode messages and turn errors into a status.

A servicer is passed to its server as a table of methods (`triptych.protocol.methods`), so that a setting chooses the
server.
"""

from __future__ import annotations

from collections.abc import Sequence

from triptych.protocol.methods import Service
from triptych.runtime.settings import StageSettings
from triptych.server.base import STOPPING, GrpcServer
from triptych.server.grpcio import GrpcioServer
from triptych.server.http2 import Http2Server

__all__ = ["SERVERS", "STOPPING", "GrpcServer", "GrpcioServer", "Http2Server", "server_for"]

SERVERS: dict[str, type[GrpcServer]] = {"http2": Http2Server, "grpcio": GrpcioServer}


def server_for(services: Sequence[Service], settings: StageSettings) -> GrpcServer:
    """The server that the settings name."""
    return SERVERS[settings.server](services, settings)
