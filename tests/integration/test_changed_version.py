"""Weights overwritten in place (tensorflow/serving#1822): the loaded version serves on, and no other is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from local.environments import ROOT
from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import until
from tests.integration.messages import infer_request, outputs_of, sales

MODEL = "sales_forecast_de"


def units(caller: Caller) -> object:
    return outputs_of(caller.infer(infer_request(MODEL, sales())))["units"]


def answers(caller: Caller, expected: object) -> bool:
    """Whether it answers as expected; an error is a no, as right after a restart."""
    try:
        return units(caller) == expected
    except grpc.RpcError:
        return False


def overwrite(file: Path, content: bytes) -> None:
    """Overwrite in place, as `cp` does, so that only the time of the inode changes."""
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("text", ["name: [", None])
def test_a_configuration_that_breaks_keeps_the_last_good_one_also_for_a_new_load(
    make_stack: MakeStack, copied_models: Callable[..., Path], text: str | None
) -> None:
    config = copied_models(MODEL) / MODEL / "config.pbtxt"
    stack = make_stack(model_repository=config.parent.parent)
    caller = Caller(stack.address("preprocess"))
    before = units(caller)
    config.unlink() if text is None else config.write_text(text)
    sentence = "config.pbtxt: differs from what was published, ignored: publish a new version"
    until(lambda: sentence in stack.log("controller").read_text())
    stack.restart_component("predictor")
    until(lambda: answers(caller, before))


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
    sentence = "version 1 differs from what was published, ignored: publish a new version"
    until(lambda: sentence in caller.refused(infer_request(MODEL, sales()))[1])
    assert sentence in stack.log("controller").read_text()
    overwrite(file, published)
    until(lambda: answers(caller, before))
