"""A tokenizer.json of any author: what it takes to read, and what it can make of a text, is limited."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors

from tests.small_tokenizers import EMBEDDING, KINDS, bert, roberta
from tests.unit.triptych.contract.steps.test_tokenize_step import tokenized
from triptych.contract import StepFile, parse_contract
from triptych.contract.steps.tokenizer_limits import CACHED_WORDS, limit_cache, parts_fault, reading
from triptych.contract.verification.trial import trial
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.errors import ContractViolation

MIB = 1 << 20


def with_vocabulary(words: int) -> bytes:
    document = json.loads(bert().to_str())
    document["model"]["vocab"] |= {f"word{number}": 1_000 + number for number in range(words)}
    return json.dumps(document).encode()


def changed(**parts: Any) -> Tokenizer:
    tokenizer = Tokenizer.from_str(bert().to_str())
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_usual_file_may_be_read(kind: str) -> None:
    assert reading(KINDS[kind]().to_str().encode(), 384 * MIB, 10.0).fault == ""


def test_a_vocabulary_that_takes_too_much_memory_is_not_read() -> None:
    content = with_vocabulary(200_000)  # 6 MB
    assert reading(content, 384 * MIB, 10.0).fault == ""
    assert reading(content, 40 * MIB, 10.0).fault == f"takes more than {40 * MIB} bytes of memory to read"


def test_a_file_that_takes_too_long_is_not_read() -> None:
    """To compile a pattern takes 60 us, and 400,000 of them fit into a file."""
    parts = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\p{L}1"), "isolated")])
    document = json.loads(changed(pre_tokenizer=parts).to_str())
    document["pre_tokenizer"]["pretokenizers"] *= 200_000
    assert reading(json.dumps(document).encode(), 8_000 * MIB, 1.0).fault == "takes more than 1 s to read"


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def pattern_fault(pattern: str, text_bytes: int, *, replaces: bool = False) -> str:
    part: Any = pre_tokenizers.Split(Regex(pattern), "isolated")
    tokenizer = changed(normalizer=normalizers.Replace(Regex(pattern), "")) if replaces else changed(pre_tokenizer=part)
    return reading(tokenizer.to_str().encode(), 384 * MIB, 60.0, text_bytes).fault


@pytest.mark.parametrize("pattern", [r"\s+$", "x+x+[yz]", r"\d+(?=px)", r"<[^>]*>", "(?:ab?)*c"])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_pattern_that_backtracks_is_refused_for_long_texts(pattern: str, replaces: bool) -> None:
    fault = pattern_fault(pattern, 1 << 20, replaces=replaces)
    assert "a text of 1048576 bytes may take 5.2 s: lower max_bytes" in fault
    assert "x+x+" in pattern or pattern_fault(pattern, 512, replaces=replaces) == ""


def test_a_pattern_that_the_library_gives_up_is_refused() -> None:
    assert "has a pattern that the library gives up at 64 bytes of 'x" in pattern_fault("(x+x+)+y", 512)


@pytest.mark.parametrize("pattern", [GPT2, LLAMA3])
def test_the_patterns_of_usual_models_are_served_for_texts_of_the_usual_length(pattern: str) -> None:
    assert pattern_fault(pattern, 65_536) == ""


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff" * 1000])
def test_what_is_no_tokenizer_is_left_to_its_reader(content: bytes) -> None:
    assert reading(content, 384 * MIB, 10.0).fault == ""


def test_a_trial_reads_no_file_that_is_over_its_limits() -> None:
    files = {"tokenizer.json": StepFile.of(with_vocabulary(200_000))}
    (problem,) = trial(parse_contract(EMBEDDING.encode()), TrialLimits(row_bytes=4 * MIB), files)
    assert problem.text == f"tokenizer.json takes more than {24 * MIB} bytes of memory to read"
    assert trial(parse_contract(EMBEDDING.encode()), files=files) == []


def charsmap(*texts: bytes) -> bytes:
    """A table without a trie, and the texts that it would make of others."""
    return struct.pack("<I", 0) + b"".join(text + b"\0" for text in texts)


GROWING: dict[str, list[Any]] = {
    "a text that replaces": [normalizers.Replace("a", "b" * 257)],
    "two that replace": [normalizers.Replace("a", "b" * 17), normalizers.Replace("b", "c" * 17)],
    "a pattern that matches nothing": [normalizers.Replace(Regex("a*"), "b" * 256)],
    "a text in front": [normalizers.Prepend("a" * 256)],
    "bytes as letters": [normalizers.ByteLevel()] * 9,
}


@pytest.mark.parametrize("parts", GROWING.values(), ids=GROWING)
def test_a_text_may_not_grow_without_a_limit(parts: list[Any]) -> None:
    tokenizer = changed(normalizer=normalizers.Sequence(parts))
    assert "times as long; a text of 65536 bytes may become 16777216" in parts_fault(tokenizer, 65_536)
    assert parts_fault(tokenizer, 1_000) == ""
    with pytest.raises(ContractViolation, match="tokenizer.json can make a text"):
        tokenized(tokenizer, [b"dog"])


def test_a_table_of_sentencepiece_and_its_usual_company_are_served() -> None:
    parts = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(b"x" * 33)).decode()}
    document = json.loads(bert().to_str())
    document["normalizer"] = parts
    table = Tokenizer.from_str(json.dumps(document)).normalizer
    usual = normalizers.Sequence([table, normalizers.Replace(Regex(" {2,}"), "▁")])
    assert parts_fault(changed(normalizer=usual, pre_tokenizer=pre_tokenizers.Metaspace()), 65_536) == ""


def test_pipelines_are_short() -> None:
    assert parts_fault(changed(normalizer=normalizers.Sequence([normalizers.NFKC()] * 63)), 65_536) == ""
    many = changed(normalizer=normalizers.Sequence([normalizers.NFKC()] * 64))
    assert parts_fault(many, 65_536) == "has 65 normalizers and pre-tokenizers, want at most 64"


@pytest.mark.parametrize(
    ("single", "pair", "fault"),
    [
        ("$A", "$A $B", ""),
        ("$A $A", "$A $B", "repeats a text: its template 'single' has 2 of them, want 1"),
        ("$A", "$A $B $A", "repeats a text: its template 'pair' has 3 of them, want 2"),
    ],
)
def test_a_template_has_each_text_once(single: str, pair: str, fault: str) -> None:
    assert parts_fault(changed(post_processor=processors.TemplateProcessing(single=single, pair=pair)), 100) == fault


def test_long_words_of_wordpiece_are_refused() -> None:
    document = json.loads(bert().to_str())
    document["model"]["max_input_chars_per_word"] = 201
    fault = parts_fault(Tokenizer.from_str(json.dumps(document)), 100)
    assert fault == "has max_input_chars_per_word 201, want at most 200"


def test_a_model_remembers_few_words() -> None:
    class Model:
        cached = 10_000

        def _resize_cache(self, capacity: int) -> None:
            self.cached = capacity

    class Library:
        model = Model()

    limit_cache(Library)
    assert Library.model.cached == CACHED_WORDS
    for kind in (bert, roberta):
        limit_cache(Tokenizer.from_str(kind().to_str()))  # with and without a cache
