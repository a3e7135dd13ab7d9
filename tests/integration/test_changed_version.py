"""Weights overwritten in place (tensorflow/serving#1822): the loaded version serves on, and no other is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc

from local.environments import ROOT
from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, outputs_of, sales

MODEL = "sales_forecast_de"


def units(caller: Caller) -> object:
    return outputs_of(caller.infer(infer_request(MODEL, sales())))["units"]


def overwrite(file: Path, content: bytes) -> None:
    """Overwrite in place, as `cp` does, so that only the time of the inode changes."""
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_overwritten_weights_are_never_served_as_the_old_version(
    make_stack: MakeStack, copied_models: Callable[..., Path]
) -> None:
    models = copied_models(MODEL)
    file = models / MODEL / "1" / "model.onnx"
    published, other = file.read_bytes(), (ROOT / "model-repository/sales_forecast_fr/1/model.onnx").read_bytes()
    stack = make_stack(model_repository=models)
    caller = Caller(stack.address("preprocess"))
    before = units(caller)
    overwrite(file, other)
    assert units(caller) == before
    stack.restart_component("predictor")
    sentence = "version 1 is not what was published: model.onnx changed"
    until(lambda: sentence in caller.refused(infer_request(MODEL, sales()))[1])
    assert sentence in stack.log("controller").read_text()
    overwrite(file, published)

    def answers() -> bool:
        try:
            return units(caller) == before
        except grpc.RpcError:
            return False

    until(answers)
