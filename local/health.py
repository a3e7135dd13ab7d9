"""Readiness and liveness of a running server."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

TIMEOUT_S = 1.0
# Each call has a connection of its own, so that no backoff of an earlier failure delays it.
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


def stage_is_ready(address: str) -> bool:
    """Call `grpc.health.v1`."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def triton_is_ready(address: str) -> bool:
    """Call `ServerReady` of the Open Inference Protocol."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=TIMEOUT_S).ready)
        except grpc.RpcError:
            return False


def server_is_live(address: str) -> bool:
    """Call `ServerLive` of the Open Inference Protocol."""
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            return bool(stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT_S).live)
        except grpc.RpcError:
            return False
