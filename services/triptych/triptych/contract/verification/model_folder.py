"""A model folder: its configuration and the numbers of its versions. `verify` and the controller read it here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format

from triptych.contract.reading.files import MAX_BYTES, cause, is_within, printable, resolved
from triptych.contract.verification.tree import PYTHON_CACHE, VERSION, name_fault
from triptych.contract.verification.triton_config import FILE, read_config, served_versions

NO_VERSION: Final = "has no version; a version is a folder with a whole number"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder as it was read.

    `config` is the message `inference.ModelConfig`, `faults` one line for each entry that cannot be a version.
    """

    path: Path
    root: Path
    config_text: str
    config: Any
    versions: tuple[int, ...]
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def served(self) -> frozenset[int]:
        """Versions that the version policy of Triton serves."""
        return frozenset(served_versions(self.config, self.versions))

    @property
    def config_path(self) -> Path:
        return self.path / FILE


def model_folders(root: Path) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Model folders of a repository, each with its fault or ''. Hidden entries and files are passed over.

    Raises `OSError` if the root cannot be listed.
    """
    within = resolved(root)
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                fault = _entry_fault(entry, within)
                is_model = bool(fault) or entry.is_dir()
            except OSError as error:
                fault = listing_fault(entry, error)
                is_model = bool(fault)
            if is_model:
                yield entry, fault


def read_model_folder(path: Path, root: Path, max_bytes: int = MAX_BYTES) -> ModelFolder:
    """Reads config.pbtxt of at most `max_bytes`, and lists the versions. Raises `ConfigError` and `OSError`."""
    text, config = read_config(path, root, max_bytes)
    versions, faults = _versions(path)
    return ModelFolder(path, root, text, config, tuple(versions), tuple(faults))


def folder_with_config(path: Path, root: Path, config: Any) -> ModelFolder:
    """The versions of a folder under another configuration than its own. Raises `OSError`."""
    versions, faults = _versions(path)
    return ModelFolder(path, root, text_format.MessageToString(config), config, tuple(versions), tuple(faults))


def listing_fault(entry: os.DirEntry[str], error: OSError) -> str:
    """The fault of an entry that cannot be listed; '' if it was removed or replaced at this moment."""
    if isinstance(error, FileNotFoundError):
        return "is a link to nothing" if entry.is_symlink() else ""
    return "" if isinstance(error, NotADirectoryError) else f"cannot be read: {cause(error)}"


def _entry_fault(entry: os.DirEntry[str], within: str) -> str:
    """Why a folder cannot be a model; '' if it can, and for a file beside the models. Raises `OSError`."""
    if entry.is_symlink() and not is_within(resolved(entry.path), within):
        return "is a link out of the model repository" if entry.is_dir() else ""
    return name_fault(entry.name) if entry.is_dir() else ""


def _versions(model: Path) -> tuple[list[int], list[str]]:
    """Numbers of the versions, and a line for each entry that cannot be one. Raises `OSError`."""
    numbers, faults = [], []
    with os.scandir(model) as entries:
        for entry in entries:
            try:
                fault = _version_fault(entry)
            except OSError as error:
                fault = f"cannot be read: {cause(error)}"
            if fault:
                faults.append(f"{model}/{printable(entry.name)}: {fault}")
            elif VERSION.fullmatch(entry.name):
                numbers.append(int(entry.name))
    return sorted(numbers), sorted(faults)


def _version_fault(entry: os.DirEntry[str]) -> str:
    """Why an entry is no version, Triton takes no other spelling; '' for a version and for files. Raises `OSError`."""
    if VERSION.fullmatch(entry.name):
        return "" if entry.is_dir() else "is no folder; a version is a folder with a whole number"
    if entry.name.startswith(".") or entry.name == PYTHON_CACHE or not entry.is_dir():
        return ""
    return "is no version; want a whole number from 1"
