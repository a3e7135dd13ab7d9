"""A recurrent network, whose rows are in the second dimension, through the real stack."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tests.integration.conftest import INFER, MakeStack
from tests.integration.messages import infer_request
from tests.integration.test_placement import caller_of
from tests.onnx_files import recurred, recurrent
from triptych.datatypes import Array
from triptych.protocol.tensors import decode_response
from triptych_cli.__main__ import main


def test_requests_to_a_recurrent_network_share_batches_and_keep_their_rows(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    (tmp_path / "file.onnx").write_bytes(recurrent())
    models = tmp_path / "own"
    assert main(["init", str(tmp_path / "file.onnx"), "--family", "speech", "--repository", str(models)]) == 0
    stack = make_stack(model_repository=models)
    random = np.random.default_rng(0)
    sent = [_request(random, rows=1 + each % 4, time=3 + each % 2) for each in range(40)]
    caller = caller_of(stack)
    caller.infer(infer_request("speech", sent[0]))  # loads the model, whose warm-up is good
    infer = caller.channel.unary_unary(INFER)
    futures = [infer.future(infer_request("speech", each).SerializeToString(), timeout=30) for each in sent]
    for each, future in zip(sent, futures, strict=True):
        answer = decode_response(pb.ModelInferResponse.FromString(future.result()))
        wanted = np.array([recurred(x, h[0]) for x, h in zip(each["x"], each["h"], strict=True)])
        np.testing.assert_allclose(answer["y"][:, :, 0], wanted, atol=1e-5)
        np.testing.assert_allclose(answer["next"][:, 0], wanted[:, -1], atol=1e-5)


def _request(random: np.random.Generator, rows: int, time: int) -> dict[str, Array]:
    x, h = random.normal(size=(rows, time, 3)), random.normal(size=(rows, 1, 2))
    return {"x": x.astype(np.float32), "h": h.astype(np.float32)}
