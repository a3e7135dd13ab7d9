"""All files below a folder of the model repository at any depth, and the faults of entries that cannot be files."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from triptych.contract.errors import ContractError
from triptych.contract.reading.files import cause, is_within, kind_fault, printable, resolved

MAX_FILES: Final = 10_000
MAX_DEPTH: Final = 32
CHUNK_BYTES: Final = 1 << 20
CONTRACT: Final = "contract.yaml"
VERSION: Final = re.compile(r"[1-9][0-9]{0,17}")  # Triton skips every other name
PYTHON_CACHE: Final = "__pycache__"  # Python writes it beside the code of a python backend

Stamp = tuple[int, int, int, int]  # size, time of change of content and of inode in ns, inode


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: its path within the folder, parts joined by '/', and a stamp that changes with each write."""

    path: str
    stamp: Stamp

    @property
    def size(self) -> int:
        return self.stamp[0]


@dataclass
class Tree:
    """Files sorted by path, and a fault `path: sentence` for each entry that is skipped."""

    files: list[File] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)


def tree_of(folder: str | Path, within: str, most: int = MAX_FILES) -> Tree:
    """Walk a folder. Links are followed if they stay in `within`, a resolved path.

    Raises `OSError` if the folder itself cannot be listed.
    """
    return _TreeWalk(os.fspath(folder), within, most).run()


class UnreadableFiles(ContractError):
    """Files of a version that cannot be read; `lines` names each."""


def version_tree(folder: Path, root: Path, max_files: int = MAX_FILES) -> Tree:
    """The files of a version without its contract; `root` is the model repository. Raises `UnreadableFiles`."""
    try:
        found = tree_of(folder, resolved(root), max_files)
    except OSError as error:
        raise UnreadableFiles([f"{folder}: cannot be read: {cause(error)}"]) from None
    if found.faults:
        raise UnreadableFiles([f"{folder}/{fault}" for fault in found.faults])
    return Tree([file for file in found.files if file.path != CONTRACT])


def is_passed_over(path: str) -> bool:
    """Whether an entry is no file of a version: hidden, as `.DS_Store`, or a cache of Python's, at any depth."""
    return any(part.startswith(".") or part == PYTHON_CACHE for part in path.split("/"))


def name_fault(name: str) -> str:
    """The fault of the name of a model folder, which callers send as text; '' if it has none."""
    if not name.isprintable():
        return "the name of a model is printable UTF-8; rename the folder"
    if not unicodedata.is_normalized("NFC", name):  # as macOS writes names: it looks the same, and no caller finds it
        return f"the name of a model is composed Unicode (NFC), got {ascii(name)}; rename the folder"
    if len(name.encode()) > 253:
        return f"the name of a model has at most 253 bytes, got {len(name.encode())}; rename the folder"
    return ""


class _TreeWalk:
    def __init__(self, folder: str, within: str, most: int) -> None:
        self._folder, self._within, self._most = folder, within, most
        self._real = ""
        self._found = Tree()

    def run(self) -> Tree:
        self._real = resolved(self._folder)
        with os.scandir(self._folder) as entries:
            self._walk_entries(list(entries), "", ())
        self._found.files.sort(key=lambda file: file.path)
        return self._found

    def _walk_entries(self, entries: list[os.DirEntry[str]], prefix: str, above: tuple[str, ...]) -> None:
        for entry in sorted(entries, key=lambda each: each.name):
            if is_passed_over(entry.name):
                continue
            if len(self._found.files) >= self._most:
                self._found.faults.append(f"holds more than {self._most} files")
                return
            path = f"{prefix}{entry.name}"
            try:
                fault = self._entry(entry, path, above)
            except OSError as error:
                fault = self._vanished(entry, error)
            if fault:
                self._found.faults.append(f"{_shown(path)}: {fault}")

    def _entry(self, entry: os.DirEntry[str], path: str, above: tuple[str, ...]) -> str:
        """Add one entry, or return its fault. Raises `OSError`."""
        real = ""
        if entry.is_symlink():
            real = resolved(entry.path)
            if not is_within(real, self._within):
                return "is a link out of the model repository"
        status = entry.stat()
        if fault := kind_fault(status.st_mode):
            return fault
        if not entry.is_dir():
            stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
            self._found.files.append(File(sys.intern(path), stamp))  # most versions have files of the same names
            return ""
        if len(above) >= MAX_DEPTH:
            return f"lies deeper than {MAX_DEPTH} folders"
        real = real or resolved(entry.path)
        if real in above or is_within(self._real, real):
            return "is a link to a folder above it"
        with os.scandir(entry.path) as below:
            entries = list(below)
        self._walk_entries(entries, f"{path}/", (*above, real))
        return ""

    def _vanished(self, entry: os.DirEntry[str], error: OSError) -> str:
        """The fault of an entry; '' if it was removed meanwhile."""
        if isinstance(error, FileNotFoundError):
            return "is a link to nothing" if entry.is_symlink() else ""
        return f"cannot be read: {cause(error)}"


def sha256_of(path: str) -> str:
    """`sha256:<hex>` of a file, read in pieces. Raises `OSError`, also if it is no regular file."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    digest = hashlib.sha256()
    with open(handle, "rb", buffering=0) as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def stated_faults(stated: Mapping[str, str], found: Tree, digest: Callable[[File], str]) -> Iterator[tuple[str, str]]:
    """Files that differ from the digests of a contract, as path and sentence. `digest` raises `OSError`."""
    files = {file.path: file for file in found.files if file.path != CONTRACT}
    for path, want in stated.items():
        if path not in files:
            yield path, f"no such file, but the contract states {want}"
        elif (got := digest(files[path])) != want:
            yield path, f"want {want}, got {got}"
    for path in sorted(files.keys() - stated.keys()):
        yield path, "is not among the files that the contract states"


def _shown(path: str) -> str:
    return "/".join(printable(part) for part in path.split("/"))
