"""Texts become the ids that Hugging Face's tokenizers gives, and what is no text is refused before any work."""

from __future__ import annotations

import gc
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer

from tests.small_tokenizers import KINDS, ODD, bert, unigram
from triptych.contract import Environment, Facts, Scope, StepFile, parse_contract
from triptych.contract.steps import tokenize
from triptych.contract.steps.registry import parse_step
from triptych.contract.verification.trial import trial
from triptych.errors import ContractViolation, InvalidInput

NAMES = ("input_ids", "attention_mask", "token_type_ids")


def scope(tokenizer: Tokenizer | bytes) -> Scope:
    content = tokenizer if isinstance(tokenizer, bytes) else tokenizer.to_str().encode()
    return Scope(files={"tokenizer.json": StepFile.of(content)})


def tokenized(tokenizer: Tokenizer | bytes, texts: Sequence[bytes], pairs: Sequence[bytes] = (), **fields: Any) -> Any:
    """Ids, mask and types of these texts."""
    step = {"op": "tokenize", "input": "text", "file": "tokenizer.json", "max_length": 16, **fields}
    values = {"text": _tensor(texts)} | ({"other": _tensor(pairs)} if pairs else {})
    env = Environment(values, len(texts), {})
    parse_step(step | ({"pair": "other"} if pairs else {})).compile(scope(tokenizer))(env)
    return [env[name] for name in NAMES]


def _tensor(texts: Sequence[bytes]) -> Any:
    array = np.empty(len(texts), np.object_)
    array[:] = texts
    return array


def expected(tokenizer: Tokenizer, texts: Sequence[Any], max_length: int, **padding: Any) -> list[list[list[int]]]:
    """The library's own arrays, with its own padding."""
    own = Tokenizer.from_str(tokenizer.to_str())
    pad = "[PAD]" if own.token_to_id("[PAD]") is not None else "<pad>"
    own.enable_truncation(max_length)
    own.enable_padding(pad_id=own.token_to_id(pad), pad_token=pad, **padding)
    found = own.encode_batch(texts)
    return [[getattr(each, name) for each in found] for name in ("ids", "attention_mask", "type_ids")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_length", [5, 16, 512])
def test_odd_texts_have_the_ids_of_the_library(kind: str, max_length: int) -> None:
    tokenizer, texts = KINDS[kind](), [text.encode() for text in ODD]
    for padding, length in (("longest", None), ("max_length", max_length)):
        got = tokenized(tokenizer, texts, max_length=max_length, padding=padding)
        assert [each.tolist() for each in got] == expected(tokenizer, ODD, max_length, length=length)
        assert {each.dtype for each in got} == {np.dtype(np.int64)}


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4), kind=st.sampled_from(sorted(KINDS)))
@settings(max_examples=60)
def test_any_texts_have_the_ids_of_the_library(texts: list[str], kind: str) -> None:
    got = tokenized(KINDS[kind](), [text.encode() for text in texts])
    assert [each.tolist() for each in got] == expected(KINDS[kind](), texts, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_and_the_left_side_are_those_of_the_library(kind: str) -> None:
    texts, others = ["the dog", "fox " * 30, ""], ["jumps", "dog " * 30, "lazy lazy"]
    got = tokenized(KINDS[kind](), [t.encode() for t in texts], [o.encode() for o in others], padding_side="left")
    pairs = list(zip(texts, others, strict=True))
    assert [each.tolist() for each in got] == expected(KINDS[kind](), pairs, 16, direction="left")
    assert got[2].max() == (kind != "roberta")  # which has one type


def test_the_padding_of_the_file_gives_token_and_side() -> None:
    tokenizer = Tokenizer.from_str(bert().to_str())
    tokenizer.enable_padding(direction="left", pad_id=tokenizer.token_to_id("fox"), pad_token="fox", pad_type_id=1)
    ids, mask, types = tokenized(tokenizer, [b"dog", b"the lazy dog"])
    assert (ids[0, 0], mask[0, 0], types[0, 0]) == (tokenizer.token_to_id("fox"), 0, 1)
    ids, _, _ = tokenized(tokenizer, [b"dog", b"the lazy dog"], pad_token="the", padding_side="right")
    assert ids[0, -1] == tokenizer.token_to_id("the")


def test_a_model_may_want_int32_and_other_names() -> None:
    step = parse_step(
        {
            "op": "tokenize",
            "input": "q",
            "file": "tokenizer.json",
            "max_length": 8,
            "datatype": "INT32",
            "input_ids": "x",
        }
    )
    env = Environment({"q": _tensor([b"dog"])}, 1, {})
    step.compile(scope(bert()))(env)
    assert env["x"].dtype == np.int32
    assert list(step.writes()) == ["x", "attention_mask", "token_type_ids"]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (b"K\xf6ln", "want text in UTF-8, got row 1: byte 0xf6 at 1"),
        (b"\xed\xa0\x80", "want text in UTF-8, got row 1: byte 0xed at 0"),
        (b"abc\xe2\x82", "want text in UTF-8, got row 1: byte 0xe2 at 3"),
        (b"x" * 101, "want at most 100 bytes of text, got row 1: 101 bytes"),
    ],
)
def test_what_is_no_text_or_too_long_is_refused_by_name(text: bytes, got: str) -> None:
    with pytest.raises(InvalidInput, match=f"input 'text': {got}"):
        tokenized(bert(), [b"dog", text], max_bytes=100)


def test_a_text_of_too_many_tokens_is_cut_or_refused() -> None:
    assert tokenized(bert(), [b"dog " * 15])[0].shape == (1, 16)
    with pytest.raises(InvalidInput, match="input 'text': want at most 16 tokens, got row 1: more"):
        tokenized(bert(), [b"dog " * 14, b"dog " * 15], too_long="refuse")


@pytest.mark.parametrize(
    ("content", "fields", "text"),
    [
        (b"", {}, "tokenizer.json is no tokenizer.json: EOF"),
        (b"\xff\xfe", {}, "tokenizer.json is no tokenizer.json: "),
        (b'{"version": "1.0", "model": {"type": "Magic"}}', {}, "tokenizer.json is no tokenizer.json: "),
        (b"[" * 100_000, {}, "tokenizer.json is no tokenizer.json: "),
        (bert, {"max_length": 2}, "max_length: want more than the 2 special tokens of tokenizer.json"),
        (bert, {"pad_token": "[MASK]"}, r"tokenizer.json has no token '\[MASK\]'"),
    ],
)
def test_a_file_that_is_of_no_use_is_named(content: bytes | Callable[[], Tokenizer], fields: Any, text: str) -> None:
    with pytest.raises(ContractViolation, match=text):
        tokenized(content() if callable(content) else content, [b"dog"], **fields)


def test_a_tokenizer_without_padding_wants_its_token_named() -> None:
    document = json.loads(unigram().to_str())
    document["model"]["vocab"][0][0] = "<none>"
    with pytest.raises(ContractViolation, match="tokenizer.json states no padding; name its pad_token"):
        tokenized(json.dumps(document).encode(), [b"dog"])
    assert tokenized(json.dumps(document).encode(), [b"dog", b"the dog"], pad_token="<none>")[0][0, -1] == 0


def test_results_have_names_of_their_own() -> None:
    step = {"op": "tokenize", "input": "x", "file": "t.json", "max_length": 8, "attention_mask": "input_ids"}
    faults = [text for _, text in parse_step(step).check(Scope(), {})]
    assert set(faults) == {"'input_ids' is the name of more than one result"}
    with pytest.raises(ValidationError, match="max_length"):
        parse_step({**step, "max_length": 0})


def test_the_width_is_known_where_all_rows_are_padded_to_it() -> None:
    step = {"op": "tokenize", "input": "x", "file": "t.json", "max_length": 8}
    assert parse_step(step).infer({})["input_ids"] == Facts()
    assert parse_step({**step, "padding": "max_length"}).infer({})["attention_mask"] == Facts(width=8)


@pytest.mark.parametrize("most", [5, 6, 7, 13])
def test_every_pair_is_cut_as_the_library_cuts_it(most: int) -> None:
    for first, second in itertools.product(range(9), repeat=2):
        pair = ("dog " * first, "fox " * second)
        got = tokenized(bert(), [pair[0].encode()], [pair[1].encode()], max_length=most)
        assert [each.tolist() for each in got] == expected(bert(), [pair], most)


def test_long_pairs_take_no_memory_for_what_is_cut_off() -> None:
    """The library keeps every combination of the parts: a pair of 64 KiB each took more than 20 GiB."""
    pair = b"dog " * 2_000
    tokenized(bert(), [pair], [pair])  # loads the library
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = psutil.Process().memory_info().rss
    assert tokenized(bert(), [pair], [pair])[0].shape == (1, 16)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    assert int(peak[1]) * 1024 - before < 32 << 20


def test_texts_are_encoded_in_batches_of_bounded_size() -> None:
    half = "x" * (tokenize.BATCH_BYTES // 2)
    assert [len(each) for each in tokenize.batches([half] * 5)] == [2, 2, 1]
    assert [len(each) for each in tokenize.batches([(half, half)] * 2)] == [1, 1]
    assert list(tokenize.batches([])) == []
    assert list(tokenize.batches(["", half * 3, "", ""])) == [[""], [half * 3], ["", ""]]
    texts = [b"dog " * 20_000, b"fox", b"the " * 20_000, b"dog " * 20_000, b"lazy"]
    got = tokenized(bert(), texts, max_bytes=1 << 20)
    assert [each.tolist() for each in got] == expected(bert(), [text.decode() for text in texts], 16)


def test_a_long_text_does_not_fill_up_many_short_ones() -> None:
    texts = [b"dog " * 6, b"dog", b"dog"]  # rows of 8 tokens, with two special ones
    assert tokenized(bert(), texts, max_request_tokens=24)[0].shape == (3, 8)
    with pytest.raises(InvalidInput, match="want at most 23 tokens in one request, .* got 24"):
        tokenized(bert(), texts, max_request_tokens=23)


def test_versions_with_one_tokenizer_share_it() -> None:
    step = parse_step({"op": "tokenize", "input": "x", "file": "tokenizer.json", "max_length": 9})
    gc.collect()
    before = len(tokenize._TOKENIZERS)
    runs = [step.compile(scope(bert())) for _ in range(3)]
    assert len(tokenize._TOKENIZERS) == before + 1
    del runs
    gc.collect()
    assert len(tokenize._TOKENIZERS) == before


def test_a_text_counts_as_more_work_than_its_bytes() -> None:
    step = parse_step({"op": "tokenize", "input": "x", "pair": "y", "file": "tokenizer.json", "max_length": 9})
    inputs = {"x": _tensor([b"abc", b"d"]), "y": _tensor([b"ef", b""]), "z": _tensor([b"g", b"h"])}
    assert step.unpacked_bytes(inputs) == 16 * 6
    assert step.unpacked_bytes({"x": np.zeros(2)}) == 0


def test_a_contract_with_a_tokenizer_passes_its_trial() -> None:
    names = "".join(f"\n    - {{name: {name}, datatype: INT64, shape: [-1, -1]}}" for name in NAMES)
    text = f"""\
apiVersion: triptych.dev/v1
kind: Contract
family: embedding
max_rows: 8
inputs: [{{name: text, datatype: BYTES, shape: [-1]}}]
preprocess: [{{op: tokenize, input: text, file: tokenizer.json, max_length: 32}}]
model:
  inputs:{names}
  outputs: [{{name: y, datatype: FP32, shape: [-1, 4]}}]
outputs: [{{name: y, datatype: FP32, shape: [-1, 4]}}]
"""
    contract = parse_contract(text.encode())
    assert trial(contract, files=scope(bert()).files) == []
    (problem,) = trial(contract, files={"tokenizer.json": StepFile.of(b"{}")})
    assert problem.location == ("preprocess", 0)
    assert problem.text.startswith("tokenizer.json is no tokenizer.json: ")
