"""Concurrent requests through the real stack: each gets the answer that it would get alone."""

from __future__ import annotations

import random
from typing import Any, cast

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from local.stack import LocalStack
from tests.integration.conftest import INFER, Caller
from tests.integration.messages import infer_request, noise_picture, objects, outputs_of, sales

Outcome = dict[str, Any] | grpc.StatusCode


def requests() -> list[pb.ModelInferRequest]:
    """Requests of two families and several countries, with different sizes and outputs, some invalid."""
    made = []
    for seed in range(60):
        country = ("de", "fr", "jp")[seed % 3]
        made.append(infer_request(f"sales_forecast_{country}", sales(1 + seed % 5, seed)))
    for seed in range(12):
        image = {"image": objects(*(noise_picture(seed=seed + row) for row in range(1 + seed % 3)))}
        made.append(infer_request("digits_de", image, top_k=1 + seed % 4))
        made.append(infer_request("digits_de", image))
    for seed in range(8):
        wrong = sales(2, seed)
        wrong["price"][1, seed % 7] = -1
        made.append(infer_request("sales_forecast_de", wrong))
        made.append(infer_request("digits_de", {"image": objects(noise_picture()[:50])}))
        made.append(infer_request("sales_forecast_de", sales(1), top_k=3))
    random.Random(1).shuffle(made)
    return made


def test_in_a_batch_each_request_is_answered_as_if_it_were_alone(stack: LocalStack, caller: Caller) -> None:
    made = requests()
    alone = [outcome(caller, request) for request in made]
    assert sum(isinstance(each, grpc.StatusCode) for each in alone) == 24
    for _ in range(5):
        infer = caller.channel.unary_unary(INFER)
        sent = [infer.future(request.SerializeToString(), timeout=30) for request in made]
        for want, future in zip(alone, sent, strict=True):
            assert_same(result(future), want)


def assert_same(got: Outcome, want: Outcome) -> None:
    """Compare answers; scores may differ in the last digits, since the order of additions depends on the batch."""
    if isinstance(got, dict) and isinstance(want, dict):
        np.testing.assert_allclose(got.pop("score", 0), want.get("score", 0), atol=1e-5)
        want = {name: value for name, value in want.items() if name != "score"}
    assert got == want


def outcome(caller: Caller, request: pb.ModelInferRequest) -> Outcome:
    return result(caller.channel.unary_unary(INFER).future(request.SerializeToString(), timeout=30))


def result(future: Any) -> Outcome:
    try:
        answer = pb.ModelInferResponse.FromString(future.result())
    except grpc.RpcError as error:
        return cast(grpc.Call, error).code()
    return {**outputs_of(answer), "model": answer.model_name, "version": answer.model_version}
