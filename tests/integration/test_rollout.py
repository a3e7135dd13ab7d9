"""`triptych rollout` on the real stack under load: a good version is promoted, a bad one rolled back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from local.stack import LocalStack
from tests.integration.conftest import Caller, MakeStack
from tests.integration.load import Load, until
from tests.integration.messages import infer_request, noise_picture, objects
from tests.onnx_files import linear, unloadable

DOCUMENT = """\
# one version for everyone
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {{name: {name}}}
spec:
  model: {model}
  traffic:
    - {{version: 1, percent: 100}}  # the first
"""
DIGIT = infer_request("digits_gb", {"image": objects(noise_picture())})
SCALE = infer_request("scale", {"features": np.ones((1, 4), np.float32)})
LOUD = infer_request("scale", {"features": np.full((1, 4), 1e7, np.float32)})  # as no made-up row of a warm-up is


def document(model: str) -> dict[str, str]:
    return {f"{model}.yaml": DOCUMENT.format(name=model.replace("_", "-"), model=model)}


def folder_of(stack: LocalStack) -> Path:
    """Folder of the documents of `make_stack`."""
    return stack.run_folder.parent / "served-models"


def text_of(stack: LocalStack, model: str) -> str:
    return (folder_of(stack) / f"{model}.yaml").read_text()


def start(stack: LocalStack, model: str, *options: str) -> subprocess.Popen[str]:
    command = [
        *(sys.executable, "-m", "triptych_cli", "rollout", model, "--to", "2", "--yes", "--json"),
        *("--documents", str(folder_of(stack)), "--controller", stack.address("controller")),
        *("--metrics", stack.metrics_url("preprocess"), stack.metrics_url("postprocess")),
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def started(stack: LocalStack, model: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a rollout within the block."""
    with start(stack, model, *options) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, list[Mapping[str, Any]]]:
    out, errors = process.communicate(timeout=110)
    assert not errors
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def roll_out(
    stack: LocalStack, request: pb.ModelInferRequest, options: Sequence[str], callers: int = 4
) -> tuple[int, list[Mapping[str, Any]], Load]:
    """Run a rollout under load; return its exit status, its lines, and the load."""
    caller = Caller(stack.address("preprocess"))
    with Load(caller, request, callers=callers) as load, started(stack, request.model_name, *options) as process:
        status, lines = finish(process)
    return status, lines, load


@pytest.fixture
def models(tmp_path: Path) -> Callable[[str, Callable[[Path], None]], Path]:
    """Model repository of one model, whose second version is changed before it is published."""

    def make(source: str, change: Callable[[Path], None]) -> Path:
        folder = tmp_path / "models" / Path(source).name
        shutil.copytree(ROOT / source, folder)
        change(folder / "2")
        return folder.parent

    return make


def replace(old: str, new: str) -> Callable[[Path], None]:
    """Change the contract of a version."""

    def change(version: Path) -> None:
        contract = version / "contract.yaml"
        before = contract.read_text()
        assert old in before
        contract.write_text(before.replace(old, new))

    return change


@pytest.mark.slow
def test_a_good_version_gets_share_after_share_and_no_request_is_lost(make_stack: MakeStack) -> None:
    stack = make_stack(document("digits_gb"))
    status, lines, load = roll_out(stack, DIGIT, ["--steps", "40,100", "--hold", "4s"])
    assert (status, lines[-1]["outcome"]) == (0, "promoted"), lines
    assert [line["step"] for line in lines[:-1]] == [40, 100]
    assert {line["conclusion"] for line in lines[:-1]} == {"good"}
    assert not load.refusals
    text = text_of(stack, "digits_gb")
    assert "- {version: 2, percent: 100}" in text
    assert "version: 1" not in text
    assert text.startswith("# one version for everyone")


@pytest.mark.slow
def test_a_version_that_fails_is_taken_back_before_the_step_is_over(
    make_stack: MakeStack, models: Callable[..., Path]
) -> None:
    refuse = replace("postprocess: []", "postprocess:\n  - {op: range, input: output, maximum: 1.0e+5}")
    stack = make_stack(document("scale"), model_repository=models("tests/data/tiny-models/scale", refuse))
    before = text_of(stack, "scale")
    status, lines, load = roll_out(stack, LOUD, ["--steps", "30,100", "--hold", "100s"])
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "100.0% of" in lines[-1]["reason"]
    assert "INTERNAL" in lines[-1]["reason"]
    assert [line["conclusion"] for line in lines[:-1]] == ["worse"]
    assert len(load.refusals) < len(load.answers)
    assert text_of(stack, "scale") == before


@pytest.mark.long
def test_a_slower_version_is_taken_back(make_stack: MakeStack, models: Callable[..., Path]) -> None:
    step = "  - {op: convert_color, input: picture, source: rgb, target: hsv}\n"
    slow = replace(step, step + "  - {op: resize, input: picture, width: 3000, height: 3000, interpolation: lanczos}\n")
    stack = make_stack(document("digits_gb"), model_repository=models("model-repository/digits_gb", slow))
    status, lines, _ = roll_out(stack, DIGIT, ["--steps", "20,100", "--hold", "100s"], callers=2)
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "p50 is" in lines[-1]["reason"]


@pytest.mark.slow
def test_a_version_that_answers_otherwise_is_taken_back(make_stack: MakeStack, models: Callable[..., Path]) -> None:
    def change(version: Path) -> None:
        for contract in version.parent.glob("*/contract.yaml"):
            contract.write_text(contract.read_text() + "observe: {output: output, buckets: [1, 2, 3]}\n")

    stack = make_stack(document("scale"), model_repository=models("tests/data/tiny-models/scale", change))
    status, lines, _ = roll_out(stack, SCALE, ["--steps", "30,100", "--hold", "100s"])
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "its answers differ: 100% of them moved" in lines[-1]["reason"]


@pytest.mark.slow
def test_without_requests_nothing_is_promoted(make_stack: MakeStack) -> None:
    stack = make_stack(document("digits_gb"))
    before = text_of(stack, "digits_gb")
    with started(stack, "digits_gb", "--steps", "50,100", "--hold", "1s", "--max-hold", "2s") as process:
        status, lines = finish(process)
    assert (status, lines[0]["conclusion"]) == (1, "too few requests"), lines
    assert text_of(stack, "digits_gb") == before


@pytest.mark.slow
def test_an_interrupt_goes_back_to_what_was_before(make_stack: MakeStack) -> None:
    stack = make_stack(document("digits_gb"))
    before = text_of(stack, "digits_gb")
    with started(stack, "digits_gb", "--steps", "50,100", "--hold", "100s") as process:
        until(lambda: "version: 2" in text_of(stack, "digits_gb"))
        process.send_signal(signal.SIGINT)
        status, lines = finish(process)
    assert (status, lines[-1]["outcome"], lines[-1]["reason"]) == (1, "rolled back", "interrupted")
    assert text_of(stack, "digits_gb") == before


@pytest.mark.slow
def test_a_version_that_cannot_be_loaded_never_gets_a_share(make_stack: MakeStack, models: Callable[..., Path]) -> None:
    def change(version: Path) -> None:
        (version / "model.onnx").write_bytes(unloadable(linear(4, 3, names=("features", "output"))))

    stack = make_stack(document("scale"), model_repository=models("tests/data/tiny-models/scale", change))
    before = text_of(stack, "scale")
    status, lines, load = roll_out(stack, SCALE, ["--steps", "30,100", "--hold", "1s", "--gate-timeout", "60s"])
    assert (status, lines[-1]["outcome"]) == (1, "rolled back"), lines
    assert "version 2 does not get its share" in lines[-1]["reason"]
    assert "model.onnx" in lines[-1]["reason"]
    assert not load.refusals
    assert text_of(stack, "scale") == before


def test_a_version_that_is_not_there_changes_nothing(make_stack: MakeStack) -> None:
    stack = make_stack(document("digits_de"))
    with started(stack, "digits_de") as process:
        status, lines = finish(process)
    assert (status, lines[-1]["outcome"]) == (2, "nothing was changed")
    assert "no version 2" in lines[-1]["reason"]
