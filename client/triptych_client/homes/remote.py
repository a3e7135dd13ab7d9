"""The home behind preprocess, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from triptych.protocol import routing_pb2 as rp
from triptych.protocol.metadata import ModelInfo, info_of
from triptych.protocol.parameters import encode_parameter
from triptych.protocol.tensors import decode_response, encoded_request
from triptych_client.connection import Metadata, Tls, failure_of, metadata_of, open_channel
from triptych_client.errors import RequestFailed
from triptych_client.homes.home import ModelAnswer, ModelRequest

SERVICE: Final = "/inference.GRPCInferenceService/"
MAX_ANSWER_BYTES: Final = 256 << 20
# Codes by which a server of another kind says that it has no such method or model.
_NO_STAGE: Final = ("UNIMPLEMENTED", "NOT_FOUND", "INVALID_ARGUMENT")


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
        self._channel: Any = open_channel(address, tls, max_answer_bytes)
        self._infer: Any = self._channel.unary_unary(f"{SERVICE}ModelInfer")
        self._choose: Any = self._channel.unary_unary("/triptych.v1.Routing/ChooseVersions")
        self._config: Any = self._channel.unary_unary(f"{SERVICE}ModelConfig")

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
        try:
            answer: bytes = method(data, timeout=self._timeout_s, metadata=metadata_of(self._metadata))
        except grpc.RpcError as error:
            raise failure_of(error, self._address) from None
        except ValueError as error:  # the channel was closed by another thread
            raise RequestFailed("CANCELLED", str(error)) from None
        return answer


def _head(request: ModelRequest) -> bytes:
    """An encoded request without its tensors."""
    message = pb.ModelInferRequest(id=request.id, model_name=request.model, model_version=request.version)
    for name, value in request.parameters.items():
        message.parameters[name].CopyFrom(encode_parameter(value))
    for name in request.outputs:
        message.outputs.add(name=name)
    encoded: bytes = message.SerializeToString()
    return encoded
