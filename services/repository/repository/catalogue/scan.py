"""Reads the model repository and the folder of ServedModel documents, and again only what changed.

Something new is read once it has not changed between two looks: a folder that is still being copied is not
taken for a broken one, and a version is not published before its model file is whole. What was published once
is kept: a version whose files go away is handed on as removed, for it may be in traffic.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as mc

from repository.catalogue.assembly import Folder, Version
from repository.catalogue.served_model import Document, Fault, read_documents
from triptych.contract import ContractError
from triptych.contract.config import FILE as CONFIG
from triptych.contract.config import ConfigError, check_config, model_file, parse_config, served_versions
from triptych.contract.loader import load_located
from triptych.contract.trial import trial

CONTRACT = "contract.yaml"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")  # Triton skips every other name
_YAML = (".yaml", ".yml")

Print = tuple[tuple[str, int, int, int], ...]  # path, mtime in ns, size, inode of each file


@dataclass(frozen=True)
class Scan:
    """Everything as it was last read."""

    folders: tuple[Folder, ...]
    documents: tuple[Document | Fault, ...]


class Scanner:
    """Looks at both folders. Does file I/O, so it belongs on a thread; not for two threads at once."""

    def __init__(self, models: Path, documents: Path | None) -> None:
        self._models, self._documents = models, documents
        self._published: defaultdict[str, dict[int, Version]] = defaultdict(dict)  # by model and number
        self._folders = _Watched()
        self._files = _Watched()
        self._read_folders: dict[str, Folder] = {}
        self._read_files: dict[str, tuple[Document | Fault, ...]] = {}

    def look(self, *, settle: bool = True) -> Scan | None:
        """What holds now; None when nothing changed. Without `settle` everything is read at first sight.

        Raises `OSError` when a folder itself cannot be listed: then nothing is known to have changed.
        """
        changed, gone = self._folders.look(_prints_of_folders(self._models), settle)
        for name in gone:
            self._read_folders[name] = replace(self._without_files(name), removed=True)
        for name in changed:
            self._read_folders[name] = self._read(self._models / name)
        files_changed = self._look_at_documents(settle)
        if not (changed or gone or files_changed):
            return None
        documents = (item for _, items in sorted(self._read_files.items()) for item in items)
        return Scan(tuple(folder for _, folder in sorted(self._read_folders.items())), tuple(documents))

    def _look_at_documents(self, settle: bool) -> bool:
        if self._documents is None:
            return False
        changed, gone = self._files.look(_prints_of_files(self._documents), settle)
        for name in gone:
            self._read_files.pop(name, None)
        for name in changed:
            self._read_files[name] = tuple(read_documents(self._documents / name))
        return bool(changed or gone)

    def _read(self, path: Path) -> Folder:
        """One model folder with all that is wrong in it."""
        try:
            text = (path / CONFIG).read_text(encoding="utf-8")
            config = _model_config(parse_config(text))
            numbers = sorted(int(entry.name) for entry in _versions(path))
        except ConfigError as error:
            return self._without_files(path.name, f"{path}/{error}")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            return self._without_files(path.name, f"{path / CONFIG}:1: cannot be read: {reason}")
        served = served_versions(config, numbers)
        versions = dict(self._without_files(path.name).versions)
        broken, notes = {}, list[str]()
        for number in numbers:
            try:
                version, note = self._version(path, number)
                _check(path, version, text, config, served)
                versions[number] = self._published[path.name][number] = version
                notes += [note] if note else []
            except ContractError as error:
                broken[number] = str(error)
        return Folder(path.name, config, versions, broken, notes=tuple(notes))

    def _without_files(self, model: str, problem: str = "") -> Folder:
        """A model as it was published, all its versions removed."""
        known = self._read_folders.get(model)
        versions = {number: replace(version, removed=True) for number, version in self._published[model].items()}
        broken = dict.fromkeys(versions, problem) if problem else {}
        return Folder(model, known.config if known else mc.ModelConfig(), versions, broken, problem)

    def _version(self, model: Path, number: int) -> tuple[Version, str]:
        """A version, and what is to be noted about it. Its contract stays what was published."""
        path = model / str(number) / CONTRACT
        published = self._published[model.name].get(number)
        try:
            version = _load(path, number)
        except ContractError:
            if published is None:
                raise
            return published, f"{path}: cannot be read any more; what was published stays in force"
        if published is not None and published.digest != version.digest:
            text = "a published contract never changes, what was published stays in force; make a new version"
            return published, f"{path}: {text}"
        return published or version, ""


class _Watched:
    """Fingerprints of one folder's entries: what was read, and what was seen last."""

    def __init__(self) -> None:
        self._seen: Mapping[str, Print] = {}
        self._read: dict[str, Print] = {}

    def look(self, now: Mapping[str, Print], settle: bool) -> tuple[list[str], list[str]]:
        """Names to be read, and names that are gone."""
        changed = [
            name
            for name, fingerprint in now.items()
            if fingerprint != self._read.get(name) and (not settle or fingerprint == self._seen.get(name))
        ]
        gone = [name for name in self._read if name not in now]
        for name in gone:
            del self._read[name]
        self._read.update({name: now[name] for name in changed})
        self._seen = now
        return changed, gone


def _load(path: Path, number: int) -> Version:
    """Raises `ContractError`, also for steps that fail on made-up rows: better here than on the first request."""
    located = load_located(path)
    if problems := list(located.tell(trial(located.contract))):
        raise ContractError(problems)
    contract = located.contract
    canonical = contract.canonical_json()
    file_bytes = sum(file.stat().st_size for file in path.parent.rglob("*") if file != path and file.is_file())
    return Version(number, contract, canonical, hashlib.sha256(canonical).hexdigest(), file_bytes=file_bytes)


def _check(path: Path, version: Version, text: str, config: mc.ModelConfig, served: set[int]) -> None:
    """Raises `ContractError` for a version that Triton could not serve as its contract says."""
    problems = [f"{path}/{problem}" for problem in check_config(version.contract, text, path.name, config)]
    if version.number not in served:
        problems.append(f"{path / CONFIG}: version_policy leaves version {version.number} out")
    file = model_file(config)
    if file is not None and not (path / str(version.number) / file).exists():
        problems.append(f"{path / str(version.number) / file}: no such file")
    if problems:
        raise ContractError(problems)


def _model_config(message: Message) -> mc.ModelConfig:
    config = mc.ModelConfig()
    config.CopyFrom(message)
    return config


def _versions(model: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(model) as entries:
        yield from (entry for entry in entries if _VERSION.fullmatch(entry.name) and entry.is_dir())


def _prints_of_folders(root: Path) -> dict[str, Print]:
    """For each model folder, its own files and those of its versions."""
    prints = {}
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            with suppress(FileNotFoundError, NotADirectoryError):
                files = list(_files(entry.path))
                files += [file for version in _versions(Path(entry.path)) for file in _files(version.path)]
                prints[entry.name] = tuple(sorted(files))
    return prints


def _prints_of_files(root: Path) -> dict[str, Print]:
    """For each document file; a mounted ConfigMap's hidden folders are skipped, its links followed."""
    prints: dict[str, Print] = {}
    for file in _files(os.fspath(root)):
        name = os.path.basename(file[0])
        if name.endswith(_YAML) and not name.startswith("."):
            prints[name] = (file,)
    return prints


def _files(folder: str) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError, NotADirectoryError):
                stat = entry.stat()
                yield entry.path, stat.st_mtime_ns, stat.st_size, stat.st_ino
