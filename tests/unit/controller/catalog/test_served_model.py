"""ServedModel documents: the schema, and faults by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.catalog.served_model import Document, DocumentFault, read_documents

GOOD = """\
# how Germany is served
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {name: sales-de, labels: {team: sales}}
spec:
  model: sales_de
  traffic:
    - {version: 3, percent: 95}
    - {version: 4, percent: 5}
  placement: {pin: false, minReplicas: 1}
"""


def read(folder: Path, text: str) -> list[Document | DocumentFault]:
    (folder / "de.yaml").write_text(text)
    return list(read_documents(folder / "de.yaml"))


def fault(folder: Path, text: str) -> str:
    (found,) = read(folder, text)
    assert isinstance(found, DocumentFault)
    return found.text.removeprefix(f"{folder}/")


def test_a_document_says_traffic_and_placement(tmp_path: Path) -> None:
    (document,) = read(tmp_path, GOOD)
    assert isinstance(document, Document)
    assert document.source.where == f"{tmp_path}/de.yaml:2"
    assert document.traffic == {3: 95, 4: 5}
    assert document.placement.replicas == 1


def test_a_pin_keeps_one_replica_and_silence_keeps_none(tmp_path: Path) -> None:
    pinned = GOOD.replace("pin: false, minReplicas: 1", "pin: true")
    silent = GOOD.partition("  placement")[0]
    replicas = [
        document.placement.replicas
        for document in read(tmp_path, f"{pinned}---\n{silent}")
        if isinstance(document, Document)
    ]
    assert replicas == [1, 0]


def test_one_file_holds_many_documents_and_empty_ones_count_for_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD + "---\n---\n" + GOOD.replace("sales_de", "sales_fr"))
    assert [item.source.where for item in found if isinstance(item, Document)] == [
        f"{tmp_path}/de.yaml:2",
        f"{tmp_path}/de.yaml:14",
    ]


def test_aliases_are_versions_by_name(tmp_path: Path) -> None:
    named, silent = read(tmp_path, GOOD + "  aliases: {production: 3, champion: 3, next: 4}\n---\n" + GOOD)
    assert isinstance(named, Document)
    assert isinstance(silent, Document)
    assert list(named.aliases.items()) == [("champion", 3), ("next", 4), ("production", 3)]
    assert silent.aliases == {}


@pytest.mark.parametrize(
    ("aliases", "text"),
    [
        ("{latest: 4}", "spec.aliases.latest: want a name of 1 to 255 letters, digits, _ and -; latest, numbers and"),
        ("{4: 4}", "spec.aliases[4]: want text, got 4; in quotes it is text"),
        ('{"\\e[31m": 4}', "spec.aliases.\\x1b[31m: want a name"),
        ("{? '" + "x" * 20_000 + "' : 4}", f"spec.aliases.{'x' * 128}... (20000 characters): want a name"),
        ("{production: '4'}", "spec.aliases.production: want a whole number, got '4'"),
        ("{production: 4.0}", "spec.aliases.production: want a whole number, got 4.0"),
        ("{production: -4}", "spec.aliases.production: want at least 1, got -4"),
        ("{production: 1" + "0" * 15 + "}", "spec.aliases.production: want less than 1000000000000000, got 1"),
        ("[production]", "spec.aliases: want a mapping, got a list"),
        ("{a: 1, a: 2}", "not YAML: found duplicate key"),
        ("{" + ", ".join(f"a{number}: 1" for number in range(5000)) + "}", "spec.aliases: want at most 64 items, got"),
    ],
)
def test_a_fault_of_an_alias_has_its_line_and_what_is_wanted(tmp_path: Path, aliases: str, text: str) -> None:
    assert fault(tmp_path, f"{GOOD}  aliases: {aliases}\n").startswith(f"de.yaml:11: {text}")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("percent: 5}", "percent: 6}", "de.yaml:7: spec.traffic: percents must sum to 100, got 101"),
        ("version: 4", "version: 3", "de.yaml:7: spec.traffic: version 3 is there more than once"),
        (
            "version: 4",
            "version: 0",
            "de.yaml:9: spec.traffic[1].version: want at least 1, got 0",
        ),
        (
            "percent: 5}",
            'percent: "5"}',
            "de.yaml:9: spec.traffic[1].percent: want a whole number, got '5'",
        ),
        (
            "pin: false",
            "pinned: false",
            "de.yaml:10: spec.placement.pinned: unknown field; known: maxReplicas, memory, minReplicas, pin",
        ),
        ("v1alpha1", "v2", "de.yaml:2: apiVersion: want 'triptych.dev/v1alpha1', got 'triptych.dev/v2'"),
        (
            "name: sales-de",
            "name: Sales",
            "de.yaml:4: metadata.name: want small letters, digits, - and ., at most 253 characters, got 'Sales'",
        ),
        ("  model: sales_de\n", "", "de.yaml:5: spec.model: is missing"),
        ("kind: ServedModel", "kind: [", "de.yaml:5: not YAML"),
        ("kind: ServedModel", "kind: ServedModel\nkind: ServedModel", "de.yaml:4: not YAML"),
    ],
)
def test_a_fault_names_file_line_and_field(tmp_path: Path, old: str, new: str, text: str) -> None:
    assert fault(tmp_path, GOOD.replace(old, new)).startswith(text)


def test_a_fault_names_the_model_so_that_it_is_not_taken_for_undeclared(tmp_path: Path) -> None:
    (found,) = read(tmp_path, GOOD.replace("percent: 5}", "percent: 6}"))
    assert isinstance(found, DocumentFault)
    assert found.model == "sales_de"


def test_documents_before_a_syntax_error_count(tmp_path: Path) -> None:
    first, second = read(tmp_path, GOOD + "---\na: [\n")
    assert isinstance(first, Document)
    assert isinstance(second, DocumentFault)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"hello", b"- a\n- b", b"[" * 500])
def test_a_file_that_holds_something_else_is_a_fault_and_no_crash(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "de.yaml").write_bytes(data)
    assert all(isinstance(item, DocumentFault) for item in read_documents(tmp_path / "de.yaml"))


@pytest.mark.parametrize(
    ("memory", "size"),
    [("300Mi", 300 << 20), ("1.5Gi", 3 << 29), ("300M", 300_000_000), ("2k", 2000), ("300000000", 300_000_000)],
)
def test_memory_is_a_quantity_as_kubernetes_writes_it(tmp_path: Path, memory: str, size: int) -> None:
    (document,) = read(tmp_path, GOOD.replace("pin: false", f'memory: "{memory}"'))
    assert isinstance(document, Document)
    assert document.placement.memory_bytes == size


def test_all_faults_of_one_document_are_from_one_place(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD.replace("percent: 5}", 'percent: "5"}').replace("pin: false", "pinned: 1"))
    assert [item.source.where for item in found] == [f"{tmp_path}/de.yaml:2"] * 2
