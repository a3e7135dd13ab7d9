"""Fingerprints of model folders and of documents by size, time and inode: if one changes, its entry is read again.

The fingerprint of an entry that cannot be listed is that of the sentence of its fault.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from triptych.contract.reading.files import cause, kind_fault, printable, resolved
from triptych.contract.verification.model_folder import listing_fault, model_folders
from triptych.contract.verification.tree import VERSION, Stamp, tree_of

Part = tuple[str, Stamp]  # a file and its stamp, or the sentence of a fault

_YAML = (".yaml", ".yml")
_NOTHING: Stamp = (0, 0, 0, 0)


class Fingerprint(NamedTuple):
    """A digest of all parts of an entry, the size of its files, and the time of the last write (seconds since 1970)."""

    digest: bytes
    total_bytes: int
    newest_s: float

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Fingerprint:
        found = sorted(parts)
        stamps = [stamp for _, stamp in found]
        digest = hashlib.blake2b(repr(found).encode(), digest_size=16).digest()
        newest_ns = max((max(stamp[1], stamp[2]) for stamp in stamps), default=0)
        return cls(digest, sum(stamp[0] for stamp in stamps), newest_ns / 1e9)


@dataclass(frozen=True)
class FolderListing:
    """Fingerprints by name, and the faults of entries that cannot be read."""

    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def add_fault(self, name: str, text: str) -> None:
        self.faults[name] = text
        self.fingerprints[name] = Fingerprint.of([(text, _NOTHING)])


def list_models(root: Path, max_files: int) -> FolderListing:
    """Fingerprint every model folder with all files of its versions. Raises `OSError` for the root alone."""
    within = resolved(root)
    found = FolderListing()
    for entry, fault in model_folders(root):
        if not fault:
            try:
                found.fingerprints[entry.name] = Fingerprint.of(_model(entry.path, within, max_files))
            except OSError as error:
                fault = listing_fault(entry, error)
        if fault:
            found.add_fault(printable(entry.name), fault)
    return found


def list_documents(root: Path) -> FolderListing:
    """Fingerprint every document file. Hidden folders of a mounted ConfigMap are skipped, links into them followed."""
    found = FolderListing()
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.endswith(_YAML) or entry.name.startswith("."):
                continue
            name = printable(entry.name)
            try:
                part = _part(entry)
                if name == entry.name:
                    found.fingerprints[name] = Fingerprint.of([part])
                else:
                    found.add_fault(name, "the name of a file of documents is printable UTF-8; rename the file")
            except FileNotFoundError:
                if entry.is_symlink():
                    found.add_fault(name, "is a link to nothing")
            except OSError as error:
                found.add_fault(name, f"cannot be read: {cause(error)}")
    return found


def _model(folder: str, within: str, max_files: int) -> Iterator[Part]:
    """Files of a model, and those of its versions at any depth. Raises `OSError` if it cannot be listed."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if VERSION.fullmatch(entry.name) and entry.is_dir():
                    yield _part(entry)
                    yield from _version(entry.path, within, max_files)
                elif not entry.is_dir():
                    yield _part(entry)
            except FileNotFoundError:
                if entry.is_symlink():
                    yield f"{entry.path} is a link to nothing", _NOTHING
            except OSError as error:
                yield f"{entry.path} cannot be read: {cause(error)}", _NOTHING


def _version(folder: str, within: str, max_files: int) -> Iterator[Part]:
    tree = tree_of(folder, within, max_files)
    yield from ((f"{folder}/{file.path}", file.stamp) for file in tree.files)
    yield from ((f"{folder}/{fault}", _NOTHING) for fault in tree.faults)


def _part(entry: os.DirEntry[str]) -> Part:
    status = entry.stat()
    fault = kind_fault(status.st_mode)
    return f"{entry.path} {fault}", (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
