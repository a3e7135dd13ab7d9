"""Published versions of a scanned folder, and changes of their files."""

from __future__ import annotations

import os
from pathlib import Path

from controller.catalog.builder import build_catalog
from controller.catalog.entities import Catalog, ScannedModel
from controller.catalog.scanner import Scanner
from controller.catalog.served_model import Document
from tests.model_folders import model_file


def folder(scanner: Scanner, *, settle: bool = False) -> ScannedModel:
    found = scanner.scan(settle=settle)
    assert found is not None
    return found.folders[0]


def overwrite(path: Path, content: bytes) -> None:
    """Overwrite a file in place; its time and its inode stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def catalog_of(scanner: Scanner, previous: Catalog | None = None, *documents: Document) -> Catalog:
    return build_catalog([folder(scanner)], documents, previous or Catalog(), undeclared="lowest")


def change_weights(version: Path) -> str:
    overwrite(version / "model.onnx", model_file(b"ONNX"))
    return "model.onnx changed"


def add(version: Path) -> str:
    (version / "deep" / "code.py").write_text("import os")
    return "deep/code.py is new"
