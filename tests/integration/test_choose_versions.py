"""The versions that preprocess chooses for keys are those that answer requests with these keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc

from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, noise_picture, objects
from tests.model_folders import served_model
from triptych.protocol import routing_pb2 as rp

IMAGE = {"image": objects(noise_picture())}
KEYS = [f"shop {number}" for number in range(30)]


def test_a_key_has_the_same_version_in_a_batch_and_online(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    documents = {"digits-gb.yaml": served_model("digits_gb", {1: 60, 2: 40})}
    stack = make_stack(documents, model_repository=copied_models("digits_gb"))
    caller = Caller(stack.address("preprocess"))
    with grpc.insecure_channel(stack.address("preprocess")) as channel:
        choose = channel.unary_unary(
            "/triptych.v1.Routing/ChooseVersions",
            request_serializer=rp.ChooseVersionsRequest.SerializeToString,
            response_deserializer=rp.ChooseVersionsReply.FromString,
        )
        request = rp.ChooseVersionsRequest(model="digits", route="GB", traffic_keys=KEYS)
        until(lambda: set(choose(request, timeout=20).versions) == {1, 2})  # once both are loaded
        reply = choose(request, timeout=20)
    online = [caller.infer(infer_request("digits_gb", IMAGE, traffic_key=key)).model_version for key in KEYS]
    assert reply.model == "digits_gb"
    assert [str(version) for version in reply.versions] == online
