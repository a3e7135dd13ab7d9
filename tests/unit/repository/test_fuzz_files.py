"""Whatever stands in a file of the models' folder or of the documents: a value or a sentence, never anything else.

The cases are few here; FUZZ_EXAMPLES=20000 tries as many for each test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repository.catalogue.assembly import Catalogue, assemble
from repository.catalogue.scan import Scanner
from repository.catalogue.served_model import Document, Fault, read_documents
from repository.kubernetes.status import status_of
from tests.unit.repository import folders
from triptych.contract import Contract, ContractError, parse_contract
from triptych.contract.callable import uncallable
from triptych.contract.config import ConfigError, check_config, missing_file, parse_config, served_versions
from triptych.contract.files import FileError, decode

FUZZ = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

CONFIG = folders.CONFIG.format(name="sales_de")
CONTRACT = folders.CONTRACT.format(family="sales", route="DE", description="first")
DOCUMENT = folders.DOCUMENT.format(
    name="sales-de", model="sales_de", traffic="{version: 1, percent: 100}", pin="false", more=""
)

LEAVES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    LEAVES, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=6), deeper)
)
WORDS = ["-", ":", "{", "}", "[", "]", "\t", "\r\n", "\n", "\0", "\x85", "\u2028", "\ufeff", '"', "'", "#", "&a", "*a"]
WORDS += ["!!binary", "%YAML 1.1", "---", "...", "? ", "<<: ", "|", ">", "1e999", ".nan", "0x1", "NO", "2026-01-01"]
WORDS += ["\\ud800", "9" * 400, "dims: [", "-1", "step", "decoupled: true", "..", "/", "sequence_batching {}"]


def spoilt(text: str) -> st.SearchStrategy[bytes]:
    """A good file with pieces taken out, doubled, replaced by words or by any bytes."""
    data = text.encode()
    pieces = st.sampled_from(WORDS).map(str.encode) | st.binary(max_size=6) | st.just(b"")
    places = st.tuples(st.integers(0, len(data)), st.integers(0, 40), pieces)

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        changed = data
        for start, length, piece in changes:
            changed = changed[:start] + piece + changed[start + length :]
        return changed

    return st.lists(places, max_size=4).map(apply) | st.binary(max_size=60)


def configuration(data: bytes) -> tuple[str, Any] | str:
    """The text with the message, or the sentence that refuses it."""
    try:
        text = decode(data)
        return text, parse_config(text)
    except (FileError, ConfigError) as error:
        return str(error)


def contract(data: bytes) -> Contract | tuple[str, ...]:
    """The contract, or the lines that refuse it."""
    try:
        return parse_contract(data, "contract.yaml")
    except ContractError as error:
        return error.lines


@FUZZ
@given(spoilt(CONFIG))
def test_any_configuration_is_a_message_or_a_sentence(data: bytes) -> None:
    match configuration(data):
        case str(sentence):
            assert sentence
            assert sentence.isascii() or sentence.encode()
        case (text, config):
            problems = check_config(parse_contract(CONTRACT.encode()), text, "sales_de", config, models={"sales_de"})
            assert all(problem.startswith("config.pbtxt:") for problem in problems)
            assert served_versions(config, [1, 2, 3]) <= {1, 2, 3}
            missing_file(config, Path("/nowhere/1"), Path("/nowhere"))
            assert all(word and text for word, text in uncallable(config, set()))


@pytest.mark.parametrize("escape", ["\\s", "\\N{BULLET}", "\\?", "\\400", "\\8", "\\x", "\\X41", "\\u12", "\\ "])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_an_escape_that_triton_refuses_is_named_with_its_line(escape: str, quote: str) -> None:
    text = f"# C:\\sales\nname: {quote}sales{escape}_{quote}\n"
    with pytest.raises(ConfigError, match=r"^config\.pbtxt:2: want escapes of C in a string, got \\.; a backslash is"):
        parse_config(text)


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
    found = contract(data)
    if isinstance(found, Contract):
        assert contract(found.canonical_json()) == found
    else:
        assert found
        assert all(line.startswith("contract.yaml:") for line in found)


@FUZZ
@given(VALUES)
def test_any_values_in_a_contract_are_a_contract_or_sentences(value: Any) -> None:
    good = parse_contract(CONTRACT.encode()).model_dump(mode="json", by_alias=True, exclude_none=True)
    for name in list(Contract.model_fields)[::5]:
        assert contract(json.dumps(good | {name: value}).encode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("documents")


@FUZZ
@given(data=spoilt(DOCUMENT))
def test_any_document_is_a_document_or_faults_and_the_others_are_served(place: Path, data: bytes) -> None:
    (place / "good.yaml").write_text(DOCUMENT.replace("sales-de", "sales-fr").replace("sales_de", "sales_fr"))
    (place / "spoilt.yaml").write_bytes(data)
    items = [item for name in ("good", "spoilt") for item in read_documents(place / f"{name}.yaml", place)]
    assert all(isinstance(item, Document) or item.text for item in items)
    catalogue = assemble([], items, Catalogue(), serve_undeclared=True)
    assert f"{place}/good.yaml:1" in catalogue.verdicts
    for verdict in catalogue.verdicts.values():
        json.dumps(status_of(verdict, catalogue, None)).encode()
    assert all(fault.encode() for fault in catalogue.faults())
    assert all(item.text.encode() for item in items if isinstance(item, Fault))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = tmp_path_factory.mktemp("models")
    folders.publish(models, "sales_de")
    folders.publish(models, "sales_fr")
    return models


@FUZZ
@given(config=spoilt(CONFIG), contract=spoilt(CONTRACT))
def test_any_model_folder_leaves_the_others_alone(models: Path, config: bytes, contract: bytes) -> None:
    (models / "sales_de" / "config.pbtxt").write_bytes(config)
    (models / "sales_de" / "1" / "contract.yaml").write_bytes(contract)
    scan = Scanner(models, None).look(settle=False)
    assert scan is not None
    bad, good = scan.folders
    assert set(good.present) == {1}
    catalogue = assemble(scan.folders, [], Catalogue(), serve_undeclared=True)
    assert "sales_fr" in catalogue.models or bad.present
    assert all(fault.encode() for fault in catalogue.faults())
