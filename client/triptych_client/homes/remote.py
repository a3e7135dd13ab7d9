"""The home behind preprocess, over gRPC."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from triptych.protocol import routing_pb2 as rp
from triptych.protocol.metadata import ModelInfo, info_of
from triptych.protocol.parameters import encode_parameter
from triptych.protocol.status import STAGE_ERROR, pushback_s
from triptych.protocol.tensors import decode_response, encoded_request
from triptych_client.errors import InvalidOptions, RequestFailed
from triptych_client.homes.home import ModelAnswer, ModelRequest

SERVICE: Final = "/inference.GRPCInferenceService/"
MAX_ANSWER_BYTES: Final = 256 << 20
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # the server's limit counts
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses that the name has
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)
# Codes by which a server of another kind says that it has no such method or model.
_NO_STAGE: Final = ("UNIMPLEMENTED", "NOT_FOUND", "INVALID_ARGUMENT")

Metadata = Mapping[str, str] | Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Tls:
    """PEM files: trusted authorities ('': those of the system), and a certificate of one's own with its key.

    `server_name` is the name in the server's certificate, if it differs from the address.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises `InvalidOptions` for files that cannot be used, with which gRPC would abort the process."""
        if bool(self.certificate) != bool(self.key):
            raise InvalidOptions("tls: want a certificate and its key, or neither")
        files = [name for name in (self.ca, self.key, self.certificate) if name]
        try:
            self._check()
            ca, key, certificate = (
                Path(name).read_bytes() if name else None for name in (self.ca, self.key, self.certificate)
            )
        except OSError as error:  # of `ssl` too
            raise InvalidOptions(f"tls: cannot use {', '.join(files)}: {error.strerror or error}") from None
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _check(self) -> None:
        """Raises `OSError` for files that are not PEM, or a key that is not the certificate's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            context.load_verify_locations(self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key, password="")  # else OpenSSL asks for it


class RemoteHome:
    """A connection to preprocess at `address`, `host:port` or any target of gRPC such as `dns:///host:port`.

    `metadata` goes with each call, such as `{"authorization": "Bearer ..."}`; a function is called for each call.
    """

    def __init__(
        self,
        address: str,
        *,
        tls: Tls | None = None,
        metadata: Metadata | None = None,
        timeout_s: float = 30.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._address, self._metadata, self._timeout_s = address, metadata, timeout_s
        options = [*_OPTIONS, ("grpc.max_receive_message_length", max_answer_bytes)]
        if tls is None:
            self._channel: Any = grpc.insecure_channel(address, options)
        else:
            name = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
            self._channel = grpc.secure_channel(address, tls.credentials(), options + name)
        self._infer = self._channel.unary_unary(f"{SERVICE}ModelInfer")
        self._choose = self._channel.unary_unary("/triptych.v1.Routing/ChooseVersions")
        self._config = self._channel.unary_unary(f"{SERVICE}ModelConfig")

    def describe(self, model: str, version: str) -> ModelInfo:
        message = pb.ModelConfigRequest(name=model, version=version)
        try:
            data = self._call(self._config, message.SerializeToString())
            return info_of(pb.ModelConfigResponse.FromString(data).config)
        except RequestFailed as error:
            if not error.is_of_connection or error.code not in _NO_STAGE:
                raise
            reason = error.text
        except (ValueError, DecodeError) as error:
            reason = str(error)
        text = f"the server at {self._address} is no Triptych of this version, or not its preprocess: {reason}"
        raise RequestFailed("UNIMPLEMENTED", text)

    def choose_versions(self, model: str, route: str | None, keys: Sequence[str]) -> Sequence[str]:
        message = rp.ChooseVersionsRequest(model=model, route=route, traffic_keys=keys)
        versions = rp.ChooseVersionsReply.FromString(self._call(self._choose, message.SerializeToString())).versions
        if len(versions) != len(keys):
            text = f"the server at {self._address} chose {len(versions)} versions for {len(keys)} keys"
            raise RequestFailed("DATA_LOSS", text)
        return [str(version) for version in versions]

    def ask(self, request: ModelRequest) -> ModelAnswer:
        data = self._call(self._infer, encoded_request(_head(request), request.inputs))
        try:
            response = pb.ModelInferResponse.FromString(data)
            outputs = decode_response(response)
        except Exception as error:  # a server may send anything
            text = f"the server at {self._address} sent no answer of the protocol: {error}"
            raise RequestFailed("DATA_LOSS", text) from None
        return ModelAnswer(response.model_name, response.model_version, outputs)

    def close(self) -> None:
        self._channel.close()

    def _call(self, method: Any, data: bytes) -> bytes:
        given = self._metadata() if callable(self._metadata) else (self._metadata or {})
        try:
            answer: bytes = method(data, timeout=self._timeout_s, metadata=tuple(given.items()))
        except grpc.RpcError as error:
            raise self._failure(error) from None
        except ValueError as error:  # the channel was closed by another thread
            raise RequestFailed("CANCELLED", str(error)) from None
        return answer

    def _failure(self, error: Any) -> RequestFailed:
        trailers = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
        code, text = error.code().name, error.details() or ""
        if STAGE_ERROR in trailers:
            return RequestFailed(code, text, pushback_s(trailers))
        return RequestFailed(code, f"{self._address}: {text}", pushback_s(trailers), is_of_connection=True)


def _head(request: ModelRequest) -> bytes:
    """An encoded request without its tensors."""
    message = pb.ModelInferRequest(id=request.id, model_name=request.model, model_version=request.version)
    for name, value in request.parameters.items():
        message.parameters[name].CopyFrom(encode_parameter(value))
    for name in request.outputs:
        message.outputs.add(name=name)
    encoded: bytes = message.SerializeToString()
    return encoded
