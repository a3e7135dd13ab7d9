"""The reader of contracts gives the values of YAML 1.2, with lines, and refuses what hides or blurs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.environments import ROOT
from tests.fuzz.yaml_reference import check_against_reference
from triptych.contract import ContractError
from triptych.contract.reading.yaml_reader import MAX_DEPTH, read_yaml

DATA = Path(__file__).parents[1] / "data"
GOOD = sorted([*DATA.glob("*.yaml"), *(ROOT / "model-repository").glob("*/*/contract.yaml")])
TEXTS = [path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*.yaml"))]

# What YAML gives a meaning to, what its versions differ in, and what libraries disagree about.
PIECES = [
    *(": ", ":", "- ", "? ", "#", " #", ",", "[", "]", "{", "}", "'", '"', "\\", "|", ">", "|-\n  ", "%", "@", "`"),
    *("\n", "\n\n", "\n  ", "  ", "\t", "\r", "\x85", "\u2028", "\ufeff", "\x00", "---", "\n---\n", "...", "\n...\n"),
    *("&a ", "*a", "!x ", "!!str ", "!!int ", "<<: ", "~", "null", "yes", "NO", "on", "True", "0x1F", "0o17", "017"),
    *("1_000", "1e3", ".5", "1.", "+1", "-", ".inf", ".nan", "2001-01-01", "1:30", "=", "a: b", "é", "\U0001f600"),
]

changes = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(0, 8), st.sampled_from(["", *PIECES])), min_size=1, max_size=5
)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_every_contract_here_has_the_values_of_the_reference(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    check_against_reference(read_yaml(text, "c.yaml")[0], text)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(100, 1_500), changes)
def test_whatever_is_read_has_the_values_of_the_reference(
    text: str, length: int, spoilt: list[tuple[int, int, str]]
) -> None:
    text = text[:length]
    for at, gone, new in spoilt:
        at %= len(text) + 1
        text = text[:at] + new + text[at + gone :]
    try:
        values, _ = read_yaml(text, "c.yaml")
    except ContractError:
        return
    check_against_reference(values, text)


@settings(max_examples=400, deadline=None)
@given(st.text("0123456789+-_.eEobxinfaNuT:~ tr", min_size=1, max_size=12))
def test_a_word_has_the_value_of_the_reference(word: str) -> None:
    text = f"a: {word}\n"
    try:
        values, _ = read_yaml(text, "c.yaml")
    except ContractError:
        return
    check_against_reference(values, text)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1: a contract is a mapping"),
        ("- a list", "1: a contract is a mapping"),
        ("a: b\n---\nc: d", "2: not YAML: want one document, got another"),
        ("a: 1\na: 2", "2: a: given twice"),
        ("a:\n  b: 1\n  b: 2", "3: a.b: given twice"),
        ("1: a", "1: keys are words; put others in quotes"),
        ("? [a]\n: b", "1: keys are words; put others in quotes"),
        ("a: &x b\nc: *x", "2: c: YAML anchors and aliases are not allowed"),
        ("a: &x [b]\nc: [*x, *x]", "2: c[0]: YAML anchors and aliases are not allowed"),
        ("a: !!binary YQ==", "1: a: the tag !!binary is not allowed here"),
        ("a: !x b", "1: a: the tag !x is not allowed here"),
        ("a: !x [b]", "1: a: the tag !x is not allowed"),
        ("a: !!int ''", "1: a: cannot be read ("),
        ("a: 2024-01-01", "1: a: put it in quotes: YAML reads it as a date"),
        ("b: 1\na: 2024-1-1 10:00:00 +1", "2: a: put it in quotes: YAML reads it as a date"),
        ("a:\n  <<: {b: c}", "2: a: put it in quotes: YAML reads it as a merge key"),
        ("a: " + "9" * 5_000, "1: a: cannot be read ("),
        ("a: 0x" + "f" * 257, "1: a: cannot be read (a number of 1028 bits, over 1024)"),
        ("a: -0o" + "7" * 5_000, "1: a: cannot be read (a number of 15000 bits, over 1024)"),
        ("%YAML 1.1\n---\na: b", "1: want YAML 1.2, got 1.1"),
        ("a: b\nc: [", "3: not YAML: "),
        ("a: b\nc: \x01", "2: not YAML: control characters are not allowed"),
        ("a: 1\nb: 'x\u2028y'", "2: holds U+2028, which YAML's versions read differently"),
        ("a: " + "[" * 100_000, "1: nested too deeply"),
        ("a:\n" + "- " * 100_000, "2: nested too deeply"),
        ("a: " + "{b: " * 100_000, "1: nested too deeply"),
    ],
)
def test_a_fault_names_its_line_and_field(text: str, fault: str) -> None:
    with pytest.raises(ContractError) as caught:
        read_yaml(text, "c.yaml")
    assert caught.value.lines[0].startswith(f"c.yaml:{fault}")


def test_the_deepest_nesting_is_read_and_one_level_more_is_refused() -> None:
    depth = MAX_DEPTH - 1
    assert read_yaml("a: " + "[" * depth + "]" * depth, "c.yaml")
    with pytest.raises(ContractError, match="nested too deeply"):
        read_yaml("a: " + "[" * (depth + 1) + "]" * (depth + 1), "c.yaml")


def test_tags_of_plain_values_and_anchors_without_alias_are_read() -> None:
    text = "a: !!str 1\nb: &x !!int '2'\nc: !!float 3\nd: !!bool true\ne: !!null ''\nf: ! 5\ng: !!seq [!!map {}]"
    values, _ = read_yaml(text, "c.yaml")
    assert values == {"a": "1", "b": 2, "c": 3.0, "d": True, "e": None, "f": "5", "g": [{}]}


def test_every_value_has_its_line() -> None:
    values, lines = read_yaml("a:\n  - 1\n  - b: NO\n", "c.yaml")
    assert values == {"a": [1, {"b": "NO"}]}
    assert lines == {(): 1, ("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3}


def test_a_megabyte_is_read_with_its_lines() -> None:
    text = "a:\n" + "- b\n" * 250_000
    values, lines = read_yaml(text, "c.yaml")
    assert len(values["a"]) == 250_000
    assert lines["a", 249_999] == 250_001
