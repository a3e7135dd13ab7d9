"""The quick reader of contracts reads what the thorough one reads, or leaves it to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.environments import ROOT
from triptych.contract import ContractError
from triptych.contract.reading.yaml_document import quickly, thoroughly

DATA = Path(__file__).parent / "data"
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
def test_every_contract_here_is_read_quickly_and_to_the_same_values(path: Path) -> None:
    data = path.read_bytes()
    values = quickly(data)
    assert values is not None
    assert repr(values) == repr(thoroughly(data, "c.yaml")[0])


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(100, 1_500), changes)
def test_whatever_is_read_quickly_means_the_same_to_the_thorough_reader(
    text: str, length: int, spoilt: list[tuple[int, int, str]]
) -> None:
    text = text[:length]
    for at, gone, new in spoilt:
        at %= len(text) + 1
        text = text[:at] + new + text[at + gone :]
    data = text.encode()
    values = quickly(data)
    if values is not None:
        assert repr(values) == repr(thoroughly(data, "c.yaml")[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"- a list",
        b"a: b\n---\nc: d",
        b"a: 1\na: 2",
        b"1: a",
        b"? [a]\n: b",
        b"a: &x b",
        b"a: &x b\nc: *x",
        b"a: !!str b",
        b"a: 2024-01-01",
        b"a:\tb",
        b"%YAML 1.1\n---\na: b",
        b"a: \xff",
        b"a: [",
        b"a: " + b"[" * 5_000 + b"]" * 5_000,
    ],
)
def test_what_is_wrong_or_unusual_is_left_to_the_thorough_reader(data: bytes) -> None:
    assert quickly(data) is None


def test_the_thorough_reader_knows_the_line_of_every_value() -> None:
    values, lines = thoroughly(b"a:\n  - 1\n  - b: NO\n", "c.yaml")
    assert values == {"a": [1, {"b": "NO"}]}
    assert lines == {(): 1, ("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3}


def test_a_fault_that_only_the_thorough_reader_sees_names_its_line() -> None:
    with pytest.raises(ContractError, match=r"c\.yaml:2: a: given twice"):
        thoroughly(b"a: 1\na: 2", "c.yaml")
