"""A server of grpcio with one model `x: FP32[n,2]` to `y: FP32[n]`, whose answers a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from triptych.protocol.metadata import ModelInfo, TensorInfo, config_of
from triptych.protocol.status import RETRY_AFTER, STAGE_ERROR
from triptych.protocol.tensors import decode_request, encode_response

X, Y = TensorInfo("x", "FP32", (-1, 2)), TensorInfo("y", "FP32", (-1,))
INFO = ModelInfo("m", ("1",), 4, [X], [Y], version="1", contract="d" * 64)

Reply = Callable[[pb.ModelInferRequest], pb.ModelInferResponse | bytes]


class Fails(Exception):
    """Ends a call with a status, written by a stage or by the connection."""

    def __init__(self, code: str, text: str = "no", hint: str = "", is_of_stage: bool = True) -> None:
        super().__init__(text)
        self.code, self.hint, self.is_of_stage = grpc.StatusCode[code], hint, is_of_stage


def sums(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    """The answer `y = x[0] + x[1]`."""
    (x,) = decode_request(request).values()
    response = pb.ModelInferResponse(model_name="m", model_version=request.model_version or "1", id=request.id)
    return encode_response(response, {"y": x.sum(axis=1, dtype=np.float32)})


@dataclass
class InferenceServer:
    """Its calls as they came, and the most that were open at once."""

    address: str = ""
    requests: list[pb.ModelInferRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    most_open: int = 0
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def infer(self, reply: Reply, data: bytes, context: Any) -> bytes:
        request = pb.ModelInferRequest.FromString(data)
        with self._lock:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self._open += 1
            self.most_open = max(self.most_open, self._open)
        try:
            answer = reply(request)
        except Fails as error:
            trailers = [(STAGE_ERROR, "1")] * error.is_of_stage + [(RETRY_AFTER, error.hint)] * bool(error.hint)
            context.set_trailing_metadata(trailers)
            context.abort(error.code, str(error))
        finally:
            with self._lock:
                self._open -= 1
        encoded: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
        return encoded

    @property
    def rows(self) -> list[int]:
        """Rows of each request."""
        return [request.inputs[0].shape[0] for request in self.requests]


@contextmanager
def inference_server(
    reply: Reply = sums,
    *,
    info: ModelInfo = INFO,
    credentials: grpc.ServerCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Iterator[InferenceServer]:
    """A running server that answers by `reply`."""
    running = InferenceServer()
    config = pb.ModelConfigResponse(config=config_of(info.name, info)).SerializeToString()
    methods: dict[str, Any] = {
        "ModelConfig": grpc.unary_unary_rpc_method_handler(lambda _data, _context: config),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(lambda data, context: running.infer(reply, data, context)),
    }
    server = grpc.server(ThreadPoolExecutor(16), options=list(options))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods)])
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    running.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield running
    finally:
        server.stop(None).wait()
