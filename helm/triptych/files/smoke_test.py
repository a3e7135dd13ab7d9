"""One check of a release: `smoke_test.py NAME SECONDS ADDRESS...`.

The check is repeated until it passes or the time is over, because everything may still be starting.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from google.longrunning import operations_pb2
from tritonclient.utils import InferenceServerException

CALL_S = 30.0


class CheckFailed(Exception):
    """A stage answered, but not as it should."""


def stages_are_ready(*addresses: str) -> str:
    for address in addresses:
        if not _client(address).is_server_ready(client_timeout=CALL_S):
            raise CheckFailed(f"{address} is not ready")
    return ", ".join(addresses)


def forecasts_sales_by_family_and_route(address: str) -> str:
    answer = _sales(address, np.full((1, 28), 100, np.float32), route="DE")
    units = answer.as_numpy("units")
    if units is None or units.shape != (1, 7):
        raise CheckFailed(f"want 7 days of units, got {units}")
    return f"{answer.get_response().model_name}: {units[0].tolist()}"


def reads_a_digit_from_a_picture(address: str) -> str:
    picture = np.array([Path("/smoke-test/three_note.png").read_bytes()], object)
    answer = _client(address).infer(
        "digits", [_tensor("image", picture, "BYTES")], parameters={"route": "DE"}, client_timeout=CALL_S
    )
    labels = answer.as_numpy("label")
    if labels is None or labels[0][0] != b"drei":
        raise CheckFailed(f"want 'drei' first, got {labels}")
    return "drei"


def refuses_a_wrong_tensor_by_name(address: str) -> str:
    try:
        _sales(address, np.full((1, 27), 100, np.float32), route="DE")
    except InferenceServerException as error:
        if "INVALID_ARGUMENT" in str(error.status()) and "history" in str(error.message()):
            return str(error.message())
        raise
    raise CheckFailed("27 days of history were accepted in place of 28")


def names_an_unknown_route(address: str) -> str:
    try:
        _sales(address, np.full((1, 28), 100, np.float32), route="XX")
    except InferenceServerException as error:
        if "NOT_FOUND" in str(error.status()) and "XX" in str(error.message()):
            return str(error.message())
        raise
    raise CheckFailed("a forecast was made for the route XX")


def jobs_answer_from_the_ledger(address: str) -> str:
    with _channel(address) as channel:
        listing = channel.unary_unary(
            "/google.longrunning.Operations/ListOperations",
            request_serializer=operations_pb2.ListOperationsRequest.SerializeToString,
            response_deserializer=operations_pb2.ListOperationsResponse.FromString,
        )
        operations = listing(operations_pb2.ListOperationsRequest(name="jobs"), timeout=CALL_S).operations
    return f"{address} knows {len(operations)} jobs"


def backend_refuses_a_missing_token(address: str) -> str:
    status, body = _forecast(address, "")
    if status != 401:
        raise CheckFailed(f"want 401, got {status}: {body}")
    return str(body["error"])


def backend_forecasts_for_a_valid_token(address: str) -> str:
    status, body = _forecast(address, _token(os.environ["JWT_KEY"], os.environ["JWT_AUDIENCE"]))
    if status != 200 or len(body["units"]) != 7:
        raise CheckFailed(f"want 200 and 7 days of units, got {status}: {body}")
    return f"{body['model']}: {body['units']}"


CHECKS: dict[str, Callable[..., str]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        stages_are_ready,
        forecasts_sales_by_family_and_route,
        reads_a_digit_from_a_picture,
        refuses_a_wrong_tensor_by_name,
        names_an_unknown_route,
        jobs_answer_from_the_ledger,
        backend_refuses_a_missing_token,
        backend_forecasts_for_a_valid_token,
    )
}


def _channel(address: str) -> grpc.Channel:
    """A channel, over TLS if the environment names the files for it."""
    files = [os.environ.get(name) for name in ("TLS_CA", "TLS_KEY", "TLS_CERT")]
    if files[0] is None:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(*(Path(name).read_bytes() if name else None for name in files))
    return grpc.secure_channel(address, credentials)


def _client(address: str) -> triton.InferenceServerClient:
    """A client, over TLS if the environment names the files for it."""
    authorities, certificate, key = (os.environ.get(name) for name in ("TLS_CA", "TLS_CERT", "TLS_KEY"))
    return triton.InferenceServerClient(
        address,
        ssl=authorities is not None,
        root_certificates=authorities,
        private_key=key,
        certificate_chain=certificate,
    )


def _sales(address: str, history: np.ndarray[Any, Any], route: str) -> triton.InferResult:
    tensors = [
        _tensor("history", history, "FP32"),
        _tensor("price", np.full((1, 7), 2, np.float32), "FP32"),
        _tensor("promotion", np.zeros((1, 7), bool), "BOOL"),
    ]
    client = _client(address)
    return client.infer("sales_forecast", tensors, parameters={"route": route}, client_timeout=CALL_S)


def _tensor(name: str, array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, array.shape, datatype)
    given.set_data_from_numpy(array)
    return given


def _forecast(address: str, token: str) -> tuple[int, Any]:
    """Status and JSON body of the backend's answer for a shoe in Germany."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{address}/forecasts/DE/shoe", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=CALL_S) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def _token(key: str, audience: str) -> str:
    """A JSON Web Token, HS256."""

    def encode(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"sub": "helm test", "aud": audience, "exp": time.time() + 60}
    signed = b".".join(encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + encode(hmac.digest(key.encode(), signed, hashlib.sha256))).decode()


def main() -> int:
    name, seconds, *addresses = sys.argv[1:]
    for variable in [each for each in os.environ if each.lower().endswith("_proxy")]:
        del os.environ[variable]  # the checks call services of the cluster
    start = time.monotonic()
    while True:
        try:
            result = CHECKS[name](*addresses)
        except (CheckFailed, InferenceServerException, grpc.RpcError, OSError) as error:
            if time.monotonic() - start > float(seconds):
                print(f"FAILED {name}: {error}")
                return 1
            time.sleep(1)
        else:
            print(f"passed after {time.monotonic() - start:.1f} s: {name}: {result}")
            return 0


if __name__ == "__main__":
    sys.exit(main())
