"""Faults are reported with file, line and field."""

from __future__ import annotations

from pathlib import Path

import pytest

from triptych.contract import ContractError, load_contract, parse_contract


def spoilt(data: Path, old: str, new: str, name: str = "digits_de.yaml") -> tuple[str, ...]:
    """The fault lines after one replacement in a good contract."""
    text = (data / name).read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ContractError) as caught:
        parse_contract(text.replace(old, new, 1).encode(), "c.yaml")
    return caught.value.lines


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("op: crop", "op: foo", "c.yaml:13: preprocess[1].op: unknown step 'foo'; known: argmax, "),
        ("width: 32,", "width: 32px,", "c.yaml:15: preprocess[3].width: want a whole number, got '32px'"),
        ("source: rgb, ", "", "c.yaml:14: preprocess[2].source: is missing"),
        ("family: digits\n", "", "c.yaml:1: family: is missing"),
        ("route: DE", "route: de", "c.yaml:4: route: want capitals, digits, _ and -, at most 32 characters, got 'de'"),
        ("k: {parameter: top_k}", "k: none", "c.yaml:23: postprocess[1].k: want a whole number, got 'none'"),
        ("k: {parameter: top_k}", "k: {parameter: n}", "c.yaml:23: postprocess[1].k: no parameter 'n'"),
        ("k: {parameter: top_k}", "k: {name: n}", "c.yaml:23: postprocess[1].k.parameter: is missing"),
        ("labels: digit,", "labels: zahl,", "c.yaml:24: postprocess[2].labels: no label table 'zahl'"),
        ("shape: [-1, 3, 32, 32]", "shape: [1, 3, 32, 32]", "c.yaml:19: model.inputs[0]: shape must start"),
        ("max_rows: 64", "max_rows: 64\nmax_rows: 65", "c.yaml:6: max_rows: given twice"),
        ("formats: [png", "formats: [gif", "c.yaml:12: preprocess[0].formats[0]: want 'png' or 'jpeg', got 'gif'"),
        ('["null", eins', "[null, eins", "c.yaml:30: labels.digit[0]: want text, got null"),
        ("max_rows: 64", "max_rows: 2024-01-01", "c.yaml:5: max_rows: put it in quotes"),
        ("route: DE", "route: 33", "c.yaml:4: route: want text, got 33; in quotes it is text"),
        ("max_rows: 64", "max_rows: [", "not YAML"),
        ("family: digits", "family: &f digits\ndescription: *f", "YAML anchors and aliases are not allowed"),
        ("family: digits", "? [a]\n: b\nfamily: digits", "c.yaml:3: keys are words"),
        ("family: digits", "1: b\nfamily: digits", "c.yaml:3: keys are words"),
        ("max_rows: 64", "max_rows: .inf", "c.yaml:5: max_rows: "),
        (
            "scale: [0.005586592,",
            "scale: [.nan,",
            "c.yaml:16: preprocess[4].scale[0]: want a finite number, got nan",
        ),
    ],
)
def test_a_fault_is_reported_with_file_line_and_field(data: Path, old: str, new: str, line: str) -> None:
    assert any(line in fault for fault in spoilt(data, old, new)), spoilt(data, old, new)


def test_a_wrong_datatype_is_one_fault(data: Path) -> None:
    """Its default for `finite` depends on the datatype."""
    (line,) = spoilt(data, "datatype: INT32", "datatype: int")
    assert "datatype: want 'BOOL'" in line


def test_several_faults_are_several_lines(data: Path) -> None:
    text = (data / "digits_de.yaml").read_text(encoding="utf-8")
    text = text.replace("route: DE", "route: de").replace("op: crop", "op: foo")
    with pytest.raises(ContractError) as caught:
        parse_contract(text.encode(), "c.yaml")
    assert [line.split(": ")[0] for line in caught.value.lines] == ["c.yaml:4", "c.yaml:13"]
    assert str(caught.value) == "\n".join(caught.value.lines)


def test_norway_is_a_country_and_not_false(data: Path) -> None:
    assert load_contract(data / "sales_forecast_no.yaml").route == "NO"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "c.yaml:1: a contract is a mapping"),
        (b"- a list", "c.yaml:1: a contract is a mapping"),
        (b"a: b\n---\nc: d", "not YAML"),
        (b"a: \xff", "c.yaml:1: not UTF-8"),
        (b"a: \x00", "c.yaml:1: holds the control character 0x00"),
        (b"a: b\nc: \x1b[2J", "c.yaml:2: holds the control character 0x1b"),
        ("a: b".encode("utf-16"), "c.yaml:1: is UTF-16; save it as UTF-8"),
        ("a: b".encode("utf-16-be"), "c.yaml:1: holds the control character 0x00"),
        ("a: b\nc: fünf".encode("latin-1"), "c.yaml:2: not UTF-8: byte 0xfc at 9; save it as UTF-8"),
        (b"a: !!python/object:os.system x", "c.yaml:1: a: the tag !!python/object:os.system is not allowed"),
        (b"a: " + b"[" * 500, "c.yaml:1: nested too deeply"),
        (b"#" * ((1 << 20) + 1), "c.yaml:1: larger than 1048576 bytes"),
        (b"a: &a [*a]", "not allowed"),
    ],
)
def test_what_is_no_contract_at_all_is_refused_in_one_line(content: bytes, text: str) -> None:
    with pytest.raises(ContractError, match=".") as caught:
        parse_contract(content, "c.yaml")
    assert len(caught.value.lines) == 1
    assert text in caught.value.lines[0]


def test_a_missing_file_is_a_contract_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"contract\.yaml:1: cannot be read: No such file"):
        load_contract(tmp_path / "contract.yaml")


def test_a_large_contract_is_read_and_a_fault_in_it_costs_no_minute(data: Path) -> None:
    text = (data / "digits_de.yaml").read_text(encoding="utf-8")
    large = text + "".join(f"#{'x' * 99}\n" for _ in range(1000))
    last = large.count("\n") + 1
    assert parse_contract(large.encode()).family == "digits"
    for more, line, fault in (
        ("a: [1\n", last + 1, "not YAML: "),
        ("a: }\n", last, "not YAML: "),
        ("made: 2026-01-01\n", last, "made: put it in quotes: YAML reads it as a date"),
        ("".join(f"k{n}: v\n" for n in range(1000)), last, "k0: unknown field; known: apiVersion, description, "),
    ):
        with pytest.raises(ContractError) as caught:
            parse_contract((large + more).encode(), "c.yaml")
        assert caught.value.lines[0].startswith(f"c.yaml:{line}: {fault}")
        assert len(caught.value.lines) <= 51
