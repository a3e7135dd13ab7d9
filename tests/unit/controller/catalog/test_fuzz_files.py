"""Fuzzed files of models and documents: each is read as a value or refused with a sentence.

The cases are few here; FUZZ_EXAMPLES=20000 tries as many for each test.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import DocumentFault, read_documents
from tests import model_folders
from tests.fuzz.file_checks import (
    CONFIG,
    CONTRACT,
    DOCUMENT,
    KINDS,
    LISTING,
    UNREADABLE,
    WORDS,
    check_configuration,
    check_contract,
    check_document,
    check_listing,
    configuration,
    contract,
)
from tests.fuzz.text_format import check_as_triton
from triptych.contract import Contract, parse_contract
from triptych.contract.verification.triton_config import ConfigError, parse_config

FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

LEAVES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=6), deeper)
)


def spoilt(text: str) -> st.SearchStrategy[bytes]:
    """A good file with pieces removed, repeated, or replaced by words or any bytes."""
    data = text.encode()
    pieces = st.sampled_from(WORDS).map(str.encode) | st.binary(max_size=6) | st.just(b"")
    places = st.tuples(st.integers(0, len(data)), st.integers(0, 40), pieces)

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = data
        for start, length, piece in changes:
            changed = changed[:start] + piece + changed[start + length :]
        return changed

    return st.lists(places, max_size=4).map(apply) | st.binary(max_size=60)


@FUZZ
@given(spoilt(CONFIG))
def test_any_configuration_is_a_message_or_a_sentence(data: bytes) -> None:
    check_configuration(data)


@pytest.mark.parametrize("escape", ["\\s", "\\N{BULLET}", "\\?", "\\400", "\\8", "\\x", "\\X41", "\\u12", "\\ "])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_an_escape_that_triton_refuses_is_named_with_its_line(escape: str, quote: str) -> None:
    text = f"# C:\\sales\nname: {quote}sales{escape}_{quote}\n"
    with pytest.raises(ConfigError, match=r"^config\.pbtxt:2: want escapes of C in a string, got \\.; a backslash is"):
        parse_config(text)


@pytest.mark.parametrize("blank", ["\x85", "\xa0", "\u2003", "\u2028", "\u3000"])
@pytest.mark.parametrize("text", ["name: {}'ä'", "name: 'ä' {}# ä", "{}# ä", "name: 'ä'\n{}"])
def test_a_blank_that_triton_does_not_take_is_named_with_its_line(text: str, blank: str) -> None:
    """A no-break space is copied from web pages; Python's protobuf reads it as a blank."""
    with pytest.raises(ConfigError, match=r"^config\.pbtxt:[23]: want ASCII outside of strings and comments, got '\\"):
        parse_config("# ä\n" + text.format(blank))


@pytest.mark.parametrize("number", ["+5", "1_0", "0o7", "0O7", "0b1", "0x1_0", "+0x5", "-1_0", "1__0", "+"])
@pytest.mark.parametrize("text", ["max_batch_size: {}", "input { dims: [ 2, {} ] }", "instance_group { gpus:{} }"])
def test_a_number_that_triton_does_not_take_is_named_with_its_line(text: str, number: str) -> None:
    with pytest.raises(ConfigError, match=rf"^config\.pbtxt:2: want a number as in C, got {re.escape(number)}$"):
        parse_config("# +5 1_0\n" + text.replace("{}", number) + " # +5\nname: '+5 1_0'")


def test_numbers_of_c_and_names_are_read() -> None:
    config = parse_config("input { name: 'a-1' dims: [ 5, -1, 0x1F, 010, 0 ] } backend: '+5' # 1_0, it's +5\n")
    assert list(config.input[0].dims) == [5, -1, 31, 8, 0]


@pytest.mark.parametrize("number", ["9223372036854775807", "99999999999", "-99999999999"])
def test_a_number_beyond_an_enumeration_is_a_sentence(number: str) -> None:
    for text in (f"optimization {{ priority: {number} }}", f"input {{ data_type: {number} }}"):
        with pytest.raises(ConfigError, match=r"^config\.pbtxt:1: "):
            parse_config(text)


@pytest.mark.parametrize("text", [CONFIG, 'name: "\\x414\\1018\\07"', "max_batch_size: 010", "name: 'a' \"b\" # c"])
def test_what_is_taken_is_what_triton_reads(text: str) -> None:
    check_as_triton(text.encode())


def test_escapes_of_c_are_read() -> None:
    text = 'platform: "\\a\\n\\\\s \\"\\\'\\x41\\101\\0 \\u00fc"  # \\s "\n'
    assert parse_config(text).platform == "\a\n\\s \"'AA\0 \u00fc"


@FUZZ
@given(st.text("\\\\\"'#\n sNxXuU0479aAfF{}", max_size=12))
def test_any_escape_is_read_or_named(text: str) -> None:
    found = configuration(f'name: "{text}"'.encode())
    assert not isinstance(found, str) or found.startswith("config.pbtxt:")


@FUZZ
@given(spoilt(CONTRACT))
def test_any_contract_is_a_contract_or_sentences(data: bytes) -> None:
    check_contract(data)


@FUZZ
@given(VALUES)
def test_any_values_in_a_contract_are_a_contract_or_sentences(value: Any) -> None:
    good = parse_contract(CONTRACT.encode()).model_dump(mode="json", by_alias=True, exclude_none=True)
    for name in list(Contract.model_fields)[::5]:
        assert contract(json.dumps(good | {name: value}).encode())


@FUZZ
@given(spoilt(DOCUMENT))
def test_any_document_is_a_document_or_faults_and_the_others_are_served(data: bytes) -> None:
    check_document(data)


@FUZZ
@given(spoilt(LISTING))
def test_any_answer_of_a_store_is_a_listing_or_a_sentence(data: bytes) -> None:
    check_listing(data)


@pytest.mark.parametrize("value", UNREADABLE, ids=lambda value: value[:30])
@pytest.mark.parametrize("text", ["max_rows: {}\n", "{}: 4\n", "a: [b, {}]\n", "{}\n"])
def test_a_value_that_yaml_cannot_make_is_one_fault_of_its_file(tmp_path: Path, text: str, value: str) -> None:
    data = ("# a comment\n" + text.replace("{}", value)).encode()
    check_contract(data)
    check_document(data)
    assert isinstance(contract(data), tuple)
    (tmp_path / "spoilt.yaml").write_bytes(data)
    assert all(isinstance(item, DocumentFault) for item in read_documents(tmp_path / "spoilt.yaml", tmp_path))


def test_the_sentence_about_a_value_names_its_line_and_field() -> None:
    why = "put it in quotes: YAML reads it as a date"
    got = contract(CONTRACT.replace("description: first", "description: 2026-99-99").encode())
    assert got == (f"contract.yaml:5: description: {why}",)


@pytest.mark.parametrize("encoding", ["utf-15", "utf-16", "utf-32", "idna", "\u00e4", "hex"])
def test_a_listing_in_an_encoding_that_is_none_is_a_sentence(encoding: str) -> None:
    check_listing(f"<?xml version='1.0' encoding='{encoding}'?><ListBucketResult/>".encode())


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, kind in KINDS.items() for data in kind.corpus(name)])
def test_what_was_found_before_is_handled(name: str, data: bytes) -> None:
    KINDS[name].check(data)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    model_folders.publish(models, "sales_de")
    model_folders.publish(models, "sales_fr")
    return models


@FUZZ
@given(config=spoilt(CONFIG), contract=spoilt(CONTRACT))
def test_any_model_folder_leaves_the_others_alone(models: Path, config: bytes, contract: bytes) -> None:
    (models / "sales_de" / "config.pbtxt").write_bytes(config)
    (models / "sales_de" / "1" / "contract.yaml").write_bytes(contract)
    scan = Scanner(models, None).scan(settle=False)
    assert scan is not None
    bad, good = scan.folders
    assert set(good.present) == {1}
    catalog = build_catalog(scan.folders, [], Catalog(), undeclared="lowest")
    assert "sales_fr" in catalog.models or bad.present
    assert all(fault.encode() for fault in catalog.faults())
