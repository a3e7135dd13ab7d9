"""Documents that cannot be read: each is named once and left out, and the others are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.catalog.scanner import Scanner, ScanOptions
from controller.catalog.served_model import DocumentFault
from tests.model_folders import declare


def test_bad_documents_are_named_and_the_others_are_read(documents: Path, models: Path) -> None:
    declare(documents, "sales_de", {1: 100})
    os.mkfifo(documents / "fifo.yaml")
    (documents / "folder.yaml").mkdir()
    (documents / "nothing.yaml").symlink_to("gone")
    (models.parent / "secret").write_text("password: geheim\nx: [")
    (documents / "outside.yaml").symlink_to(models.parent / "secret")
    (documents / "wide.yaml").write_text("kind: ServedModel", encoding="utf-16")
    (documents / "large.yaml").write_text("#" * 2000)
    (documents / os.fsdecode(b"odd\xff.yaml")).write_text("kind: ServedModel")
    found = Scanner(models, documents, ScanOptions(max_document_bytes=1500)).scan(settle=False)
    assert found is not None
    faults = {item.text.removeprefix(f"{documents}/") for item in found.documents if isinstance(item, DocumentFault)}
    assert faults == {
        "fifo.yaml:1: is a FIFO; want a regular file",
        "folder.yaml:1: is a folder; want a regular file",
        "nothing.yaml:1: is a link to nothing",
        "outside.yaml:1: is a link out of its folder; want a file within it",
        "wide.yaml:1: is UTF-16; save it as UTF-8",
        "large.yaml:1: larger than 1500 bytes",
        r"odd\xff.yaml:1: the name of a file of documents is printable UTF-8; rename the file",
    }
    assert sum(not isinstance(item, DocumentFault) for item in found.documents) == 1


@pytest.mark.parametrize("text", ["---\na: b\n" * 1000, "".join(f"k{n}: v\n" for n in range(1000))])
def test_the_faults_of_one_file_of_documents_are_counted_and_not_all_reported(
    documents: Path, models: Path, text: str
) -> None:
    (documents / "many.yaml").write_text(text)
    declare(documents, "sales_de", {1: 100})
    found = Scanner(models, documents).scan(settle=False)
    assert found is not None
    faults = [item.text for item in found.documents if isinstance(item, DocumentFault)]
    assert 50 <= len(faults) < 60
    assert "faults" in faults[-1]
    assert sum(not isinstance(item, DocumentFault) for item in found.documents) == 1
