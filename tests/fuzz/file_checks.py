"""Untrusted files by kind: good samples, dictionary words, and a check that any bytes must pass.

The property tests (`tests/unit/controller/catalog/test_fuzz_files.py`) and the coverage-guided fuzzer
(`tests.fuzz.files`) share the checks. A check raises `AssertionError`, or what the code under test should not have
raised.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog
from controller.catalog.served_model import Document, DocumentFault, read_documents
from controller.kubernetes.status import status_of
from controller.store.keys import MAX_PART_BYTES, classify, folders_of
from controller.store.listing import ListingPage
from controller.store.objects import Object
from tests import model_folders
from tests.fuzz.yaml_reference import check_against_reference
from triptych.contract import Contract, ContractError, parse_contract
from triptych.contract.plan import Plan
from triptych.contract.reading.files import FileError, decode, printable_path
from triptych.contract.reading.loader import MAX_FAULTS
from triptych.contract.reading.yaml_reader import read_yaml
from triptych.contract.verification.callable import uncallable
from triptych.contract.verification.trial import trial
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.contract.verification.triton_config import (
    ConfigError,
    check_config,
    missing_file,
    parse_config,
    served_versions,
)

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")

CONFIG = model_folders.CONFIG.format(name="sales_de")
CONTRACT = model_folders.CONTRACT.format(family="sales", route="DE", description="first")
DOCUMENT = model_folders.served_model("sales_de", {1: 100}, placement="pin: false", aliases="production: 1")
LISTING = (
    "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><IsTruncated>true"
    "</IsTruncated><EncodingType>url</EncodingType><NextContinuationToken>m%2F1</NextContinuationToken><Contents><Key>"
    "m/1/model+a%C3%A4.onnx</Key><Size>12</Size><LastModified>2026-11-28T01:02:03.456Z</LastModified><ETag>&quot;ab&quot;"
    "</ETag></Contents></ListBucketResult>"
)
# As in scalars, and in the syntax of YAML, of protobuf's text and of XML.
WORDS = ["-", ":", "{", "}", "[", "]", "\t", "\r\n", "\n", "\0", "\x85", "\u2028", "\ufeff", '"', "'", "#", "&a", "*a"]
WORDS += ["!!binary", "%YAML 1.1", "---", "...", "? ", "<<: ", "|", ">", "1e999", ".nan", "0x1", "NO", "2026-01-01"]
WORDS += ["\\ud800", "9" * 400, "dims: [", "-1", "step", "decoupled: true", "..", "/", "sequence_batching {}"]
_CONFIG_WORDS = ["\\s", "\\400", "\\x41", "\\u00fc", "\\U0001f600", "0x10", "017", "1.5f", "-inf", "nan", "<", ">"]
_CONFIG_WORDS += ["TYPE_INT64", "TYPE_STRING", "platform: ", "default_model_filename: ", "specific { versions: 1 }"]
_CONFIG_WORDS += ["version_policy { latest {} }", "instance_group [{ count: 1 }]", "[type.googleapis.com/a]", ";", ","]
_CONFIG_WORDS += [
    "+5",
    "1_0",
    "0b1",
    "ensemble_scheduling",
    "dynamic_batching {}",
    "reshape { shape: [] }",
    "default_model_name",
]
_CONFIG_WORDS += ['parameters { key: "a" value { string_value: "b" } }']
_XML_WORDS = ['<!DOCTYPE a [<!ENTITY b "c">]>', "&b;", "&lt;", "&#0;", "&#x9;", "&#xFFFE;", "<![CDATA[", "]]>", "<!--"]
_XML_WORDS += ["-->", "<Contents>", "</Contents>", "<Key>", "</Key>", "<Size>", "</Size>", "%2F", "%00", "%ff", "../"]
_XML_WORDS += ["//", "+", "<EncodingType>url</EncodingType>", "<?xml version='1.0' encoding='utf-16'?>", "1e9", "-1"]
_XML_WORDS += ["\u0661", "W/"]
# Words and tags that YAML readers fail at with unexpected exceptions.
UNREADABLE = ["2026-99-99", "2026-02-30T99:99:99", "0001-01-01T00:00:00+99:00", "!!int abc", "!!int ''", "!!float x"]
UNREADABLE += ["!!float 'a:b'", "!!bool x", "!!timestamp '2001-12-14t21:59:43.10-99:00'", "0x_", "9" * 5000]
UNREADABLE += ['"\\Uffffffff"', "{? {? {a: b} : c} : d}"]
_SMALL = TrialLimits(row_bytes=1 << 20, seconds=2.0)


@dataclass(frozen=True)
class FileKind:
    """`check` raises for bytes that are handled wrongly; `seeds` are files that are right, or nearly."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    words: Sequence[str]

    def corpus(self, name: str) -> Iterator[bytes]:
        """The seeds, and what was found before."""
        yield from self.seeds()
        yield from (path.read_bytes() for path in sorted((CORPUS / name).glob("*")))


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


def check_configuration(data: bytes) -> None:
    match configuration(data):
        case str(sentence):
            _check_sentence(sentence)
        case (text, config):
            good = _good_contract()
            problems = check_config(good, text, "sales_de", config, models={"sales_de"})
            assert all(problem.startswith("config.pbtxt:") for problem in problems)
            for problem in problems:
                _check_sentence(problem)
            assert served_versions(config, [1, 2, 3]) <= {1, 2, 3}
            missing_file(config, Path("/nowhere/1"), Path("/nowhere"))
            assert all(word and text for word, text in uncallable(config, set()))


def check_contract(data: bytes) -> None:
    found = contract(data)
    if isinstance(found, tuple):
        assert found
        assert len(found) <= MAX_FAULTS + 1
        assert all(line.startswith("contract.yaml:") for line in found)
        for line in found:
            _check_sentence(line)
        return
    assert contract(found.canonical_json()) == found
    text = decode(data)
    check_against_reference(read_yaml(text, "contract.yaml")[0], text)
    if not trial(found, _SMALL):
        Plan(found)


def check_document(data: bytes) -> None:
    place = _place()
    (place / "spoilt.yaml").write_bytes(data)
    items = [*_good_documents(), *read_documents(place / "spoilt.yaml", place)]
    assert all(isinstance(item, Document) or item.text for item in items)
    catalog = build_catalog([], items, Catalog(), undeclared="lowest")
    assert f"{place}/good.yaml:1" in catalog.document_results
    for result in catalog.document_results.values():
        json.dumps(status_of(result, catalog, None)).encode()
    for fault in (*catalog.faults(), *(item.text for item in items if isinstance(item, DocumentFault))):
        _check_sentence(fault)


def check_listing(data: bytes) -> None:
    try:
        page = ListingPage(data)
    except ValueError as error:
        _check_sentence(str(error))
        return
    check_listed({item.key: Object(item.size, item.modified_ns, item.tag) for item in page.items})


def check_listed(listed: dict[str, Object]) -> None:
    """Every key is a file, a named fault or a marker without content; the files fit into one folder."""
    found = classify(listed)
    assert found.files.keys().isdisjoint(found.faults)
    assert found.files.keys() | found.faults.keys() <= listed.keys()
    assert folders_of(found.files).isdisjoint(found.files)
    for path, known in found.files.items():
        parts = path.split("/")
        assert len(parts) > 1
        assert path == os.path.normpath(path)
        assert all(0 < len(part.encode()) <= MAX_PART_BYTES for part in parts)
        assert known.size >= 0
        assert known.digest.encode()
    for key, why in found.faults.items():
        assert f"{printable_path(key)}: {why}".isprintable()
    silent = listed.keys() - found.files.keys() - found.faults.keys()
    assert all("/" not in key or listed[key].size == 0 for key in silent), "nothing with a content goes unsaid"


def _check_sentence(text: str) -> None:
    assert text
    assert text.encode()


def _published(pattern: str) -> Iterator[bytes]:
    """Files of the examples, one of each size."""
    found = {path.stat().st_size: path for path in sorted((ROOT / "model-repository").glob(pattern))}
    yield from (path.read_bytes() for path in found.values())


def _examples() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted((ROOT / "manifests/examples").glob("*.yaml")))


@cache
def _good_contract() -> Contract:
    return parse_contract(CONTRACT.encode())


@cache
def _place() -> Path:
    """A folder of this process."""
    folder = tempfile.mkdtemp(prefix="documents-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _good_documents() -> tuple[Document | DocumentFault, ...]:
    path = _place() / "good.yaml"
    path.write_text(DOCUMENT.replace("sales-de", "sales-fr").replace("sales_de", "sales_fr"))
    return tuple(read_documents(path, _place()))


KINDS = {
    "config": FileKind(
        check_configuration, lambda: iter([CONFIG.encode(), *_published("*/config.pbtxt")]), [*WORDS, *_CONFIG_WORDS]
    ),
    "contracts": FileKind(
        check_contract,
        lambda: iter([CONTRACT.encode(), *_published("*/*/contract.yaml")]),
        [*WORDS, *UNREADABLE],
    ),
    "documents": FileKind(check_document, lambda: iter([DOCUMENT.encode(), *_examples()]), [*WORDS, *UNREADABLE]),
    "listings": FileKind(check_listing, lambda: iter([LISTING.encode()]), [*WORDS[:18], *_XML_WORDS]),
}
