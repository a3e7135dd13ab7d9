"""Client of a running controller: traffic in force, loaded models, and decisions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from tritonclient.grpc import service_pb2 as pb

from triptych.client.contract_cache import CONTROLLER_SERVICE
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.update_parts import PartJoiner
from triptych.runtime.tls import UpstreamCredentials
from triptych.server.inference_servicer import SERVICE

CALL_S = 5.0
RECONNECT_S = 1.0
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


class ControllerUnavailable(Exception):
    """The controller does not answer; the text has its address and the reason."""


@dataclass(frozen=True)
class TlsCredentials:
    """Credentials for a controller that serves TLS."""

    credentials: grpc.ChannelCredentials
    server_name: str = ""  # in its certificate; empty: the host of its address

    @classmethod
    def read(cls, ca: str, cert: str, key: str, server_name: str) -> TlsCredentials:
        """Read PEM files. Raises `OSError`."""
        try:
            return cls(UpstreamCredentials(ca, key, cert).for_grpcio(), server_name)
        except OSError as error:
            text = f"cannot read {error.filename}: {error.strerror}" if error.filename else f"{error}"
            raise OSError(f"{text}; --ca, --cert and --key name files") from error

    def channel(self, address: str) -> grpc.Channel:
        name = [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []
        return grpc.secure_channel(address, self.credentials, options=[*OPTIONS, *name])


class ControllerClient:
    """Client of one controller. A thread watches the catalog, so that reading it takes no call."""

    def __init__(self, address: str, tls: TlsCredentials | None = None) -> None:
        self.address = address
        self._channel = tls.channel(address) if tls else grpc.insecure_channel(address, options=OPTIONS)
        self._models: dict[str, cp.Model] = {}
        self._changed = threading.Condition()
        self._complete = False
        self._fault = "it has not sent its models yet"
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def models(self, within_s: float = CALL_S) -> Mapping[str, cp.Model]:
        """The catalog of the stages. Raises `ControllerUnavailable` if it does not arrive in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._complete, within_s)
            if self._fault:
                raise ControllerUnavailable(f"the controller at {self.address} does not answer: {self._fault}")
            return self._models

    def describe(self) -> cp.DescribeReply:
        """The loaded models of each predictor, and the last decisions. Raises `ControllerUnavailable`."""
        reply: cp.DescribeReply = self._call(CONTROLLER_SERVICE, "Describe", cp.DescribeRequest())
        return reply

    def reasons(self, model: str) -> Mapping[str, str]:
        """Reasons why versions of a model are not served; key '' is the whole model. Raises `ControllerUnavailable`."""
        index: pb.RepositoryIndexResponse = self._call(SERVICE, "RepositoryIndex", pb.RepositoryIndexRequest())
        return {
            entry.version: entry.reason
            for entry in index.models
            if entry.name == model and entry.state == "UNAVAILABLE" and entry.reason
        }

    def close(self) -> None:
        self._closed.set()
        self._channel.close()
        self._thread.join(CALL_S)

    def _call(self, service: ServiceDescriptor, method: str, request: Any) -> Any:
        try:
            return self._bind(service, method)(request, timeout=CALL_S)
        except grpc.RpcError as error:
            raise ControllerUnavailable(f"the controller at {self.address}: {method}: {_describe(error)}") from error

    def _watch(self) -> None:
        while not self._closed.is_set():
            try:
                for update in self._updates():
                    self._apply(update)
                fault = "the stream ended"
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
                fault = _describe(error)
            with self._changed:
                self._fault = fault
            self._closed.wait(RECONNECT_S)

    def _updates(self) -> Iterator[cp.CatalogUpdate]:
        stream, joiner = self._bind(CONTROLLER_SERVICE, "Watch")(cp.WatchRequest()), PartJoiner()
        try:
            for part in stream:
                if update := joiner.add(part):
                    yield update
        finally:
            with contextlib.suppress(grpc.RpcError):
                stream.cancel()

    def _apply(self, update: cp.CatalogUpdate) -> None:
        models = {} if update.full else dict(self._models)
        models.update((model.name, model) for model in update.models)
        for name in update.removed:
            models.pop(name, None)
        with self._changed:
            self._models, self._complete, self._fault = models, True, ""
            self._changed.notify_all()

    def _bind(self, service: ServiceDescriptor, name: str) -> Any:
        method = service.methods_by_name[name]
        make = self._channel.unary_stream if method.server_streaming else self._channel.unary_unary
        return make(
            f"/{service.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )


def _describe(error: Exception) -> str:
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return str(error)
