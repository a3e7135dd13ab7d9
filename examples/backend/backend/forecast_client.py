"""Client of Triptych: Open Inference Protocol over gRPC, with a deadline, retries and the caller's trace."""

from __future__ import annotations

import json
import re
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from grpc import ChannelCredentials, StatusCode, aio, ssl_channel_credentials
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from backend.features import Features

# A pod that is being replaced answers UNAVAILABLE, and another one takes the call. One deadline covers all tries.
RETRY = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "0.5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
CONFIG = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": RETRY}]}
TYPES = {"history": ("FP32", np.float32), "price": ("FP32", np.float32), "promotion": ("BOOL", np.bool_)}

# HTTP status by gRPC code; 502 for all others.
HTTP = {
    StatusCode.NOT_FOUND: 404,
    StatusCode.RESOURCE_EXHAUSTED: 503,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.DEADLINE_EXCEEDED: 504,
}


# W3C. A caller's text in another form is replaced by a new trace: gRPC refuses metadata that is not printable.
TRACEPARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class ForecastError(Exception):
    """Triptych answered with an error. The text is its sentence, `status` is the HTTP status for the caller."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.status = HTTP.get(code, 502)


@dataclass(frozen=True)
class Forecast:
    """Units for each of the next days, with the model and the version that forecast them."""

    units: list[int]
    model: str
    version: str


class ForecastClient:
    """One channel for all requests, over all pods that the address has."""

    def __init__(self, address: str, timeout_s: float, credentials: ChannelCredentials | None = None) -> None:
        options = [
            ("grpc.service_config", json.dumps(CONFIG)),
            ("grpc.dns_min_time_between_resolutions_ms", 500),
            ("grpc.enable_http_proxy", 0),
        ]
        if credentials is None:
            self._channel = aio.insecure_channel(address, options=options)
        else:
            self._channel = aio.secure_channel(address, credentials, options=options)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._timeout_s = timeout_s

    async def forecast(self, country: str, article: str, features: Features, traceparent: str) -> Forecast:
        """Raises `ForecastError`. An article always meets the same version while the traffic stands."""
        request = pb.ModelInferRequest(model_name="sales_forecast")
        request.parameters["route"].string_param = country
        request.parameters["traffic_key"].string_param = article
        for name, (datatype, dtype) in TYPES.items():
            array: NDArray[Any] = np.asarray([features[name]], dtype)
            request.inputs.add(name=name, datatype=datatype, shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        metadata = (("traceparent", traceparent if TRACEPARENT.fullmatch(traceparent) else new_trace()),)
        try:
            answer = await self._stub.ModelInfer(request, timeout=self._timeout_s, metadata=metadata)
        except aio.AioRpcError as error:
            raise ForecastError(error.code(), error.details() or error.code().name) from error
        outputs = zip(answer.outputs, answer.raw_output_contents, strict=True)
        units = next(np.frombuffer(raw, np.int64) for output, raw in outputs if output.name == "units")
        return Forecast([int(each) for each in units], answer.model_name, answer.model_version)

    async def close(self) -> None:
        await self._channel.close()


def credentials(ca: str, cert: str, key: str) -> ChannelCredentials | None:
    """Credentials from PEM files, read once; None is plaintext.

    Raises `OSError` for files that cannot be used: gRPC would say nothing, or abort the process.
    """
    if not ca:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca)
        if cert:
            context.load_cert_chain(cert, key, password="")  # else OpenSSL asks for it
    except OSError as error:  # of `ssl` too
        files = ", ".join(filter(None, (ca, cert, key)))
        raise OSError(f"cannot use {files}: {error.strerror or error}") from None
    authorities, certificates, private = (Path(file).read_bytes() if file else None for file in (ca, cert, key))
    return ssl_channel_credentials(authorities, private, certificates)


def new_trace() -> str:
    """A trace that begins here, W3C."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
