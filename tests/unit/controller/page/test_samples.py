"""The calls to be copied: they hold the request whatever is in it."""

from __future__ import annotations

import ast
import base64
import json
import subprocess
from pathlib import Path
from typing import TypeGuard

import numpy as np
import pytest

from controller.page.samples import MAX_SHOWN, SampleCall
from tests.unit.controller.page.test_form import TEXT, contract
from triptych.contract import parse_contract
from triptych.datatypes import Array

WORDS = np.array([[b"Bonn's \"\\"], ["日本".encode()]], np.object_)


def call(**inputs: Array) -> SampleCall:
    return SampleCall("localhost:9000", "shop", 3, contract(), inputs, {"language": "it's", "top": 2})


def is_open(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"


def test_python_reads_what_was_sent() -> None:
    age = np.array([[1, 2], [3, 4]], np.float32)
    text = call(age=age, city=WORDS).python()
    ast.parse(text)
    expressions = [line.strip().rstrip(",") for line in text.splitlines() if "np.array(" in line]
    (_, kind, first), (_, _, second) = (eval(each, {"np": np}) for each in expressions)
    assert (kind, first.dtype, first.tolist(), second.tolist()) == ("FP32", age.dtype, age.tolist(), WORDS.tolist())
    assert "client.infer('shop', tensors, '3', parameters={'language': \"it's\", 'top': 2})" in text


def test_grpcurl_sends_what_was_sent() -> None:
    document = json.loads(call(city=WORDS).grpcurl().split("\n")[1])
    assert document["parameters"] == {"language": {"string_param": "it's"}, "top": {"int64_param": 2}}
    (tensor,) = document["inputs"]
    assert tensor["shape"] == [2, 1]
    assert [base64.b64decode(each) for each in tensor["contents"]["bytes_contents"]] == list(WORDS.flat)


HOSTILE = ["$(touch ran)", "`touch ran`", "${HOME}", "a\\b", "\\$(touch ran)", 'a"b', "x; touch ran #", "\u202e"]
HOSTILE += ["it's", 'x" + str(__import__("os").system("touch ran")) + "']


@pytest.mark.parametrize("word", HOSTILE)
def test_a_call_runs_nothing_of_what_it_sends(word: str, tmp_path: Path) -> None:
    """Names and defaults are a contract's, which is data: they ran in the shell and the Python of its reader."""
    inputs = {word: np.array([[b"\xff"]], np.object_), "age": np.zeros((1, 2), np.float32)}
    document = json.dumps({"name": word})[len('{"name": ') : -1]
    named = parse_contract(TEXT.replace("name: city", f"name: {document}").encode())
    made = SampleCall("localhost:9000", "shop", 3, named, inputs, {"language": f"{word}\nEND\n"})
    (tmp_path / f"{word}_0").write_bytes(b"\xff\xd8")
    call = f"grpcurl() {{ cat; }}\n{made.grpcurl()}"
    shell = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True, cwd=tmp_path)
    sent = json.loads(shell.stdout)
    assert sent["parameters"]["language"]["string_param"] == f"{word}\nEND\n"
    assert (sent["inputs"][0]["name"], sent["inputs"][0]["contents"]) == (word, {"bytes_contents": ["/9g="]})
    opened = [node.args[0] for node in ast.walk(ast.parse(made.python())) if is_open(node)]
    assert [ast.literal_eval(each) for each in opened] == [f"{word}_0"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{word}_0"]


@pytest.mark.parametrize("word", [b"\xff\xd8", b"x" * (MAX_SHOWN + 1), b"a\nb"])
def test_other_bytes_and_long_ones_stand_as_files(word: bytes) -> None:
    made = call(city=np.array([[word]], np.object_))
    assert "open('city_0', \"rb\").read()" in made.python()
    assert "$(base64 -w0 city_0)" in made.grpcurl()


def test_many_numbers_stand_as_a_file() -> None:
    made = call(age=np.zeros((MAX_SHOWN, 2), np.float32))
    assert "np.load('age.npy')" in made.python()
    assert f'["{2 * MAX_SHOWN} VALUES OF age"]' in made.grpcurl()


def test_half_floats_are_left_to_clients() -> None:
    half = parse_contract(TEXT.replace("name: age, datatype: FP32", "name: age, datatype: FP16").encode())
    made = SampleCall("localhost:9000", "shop", 3, half, {"age": np.zeros((1, 2), np.float16)}, {})
    assert made.grpcurl() == "JSON has no values of FP16; a client sends them as raw_input_contents"
    assert "np.float16" in made.python()
