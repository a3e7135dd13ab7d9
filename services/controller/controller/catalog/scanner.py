"""Reads the model repository and the folder of ServedModel documents, and again only what changed.

Something new is read once nothing in it, at any depth, has changed between two looks: a folder that is still being
copied is not taken for a broken one. What was published once is kept: a version whose files go away, change or cannot
be read any more is handed on as removed, for it may be in traffic. What cannot be read is a fault of its own model.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.builder import Folder, Version
from controller.catalog.fingerprints import Listed, Print, list_documents, list_models, newest_s, total_bytes
from controller.catalog.seal import difference, refusal
from controller.catalog.sealer import Identify, NotAtRest, Sealer, Unreadable, by_content
from controller.catalog.served_model import MAX_BYTES as MAX_DOCUMENT_BYTES
from controller.catalog.served_model import Document, Fault, Origin, read_documents
from triptych.contract import ContractError
from triptych.contract.reading.files import MAX_BYTES, cause, printable, printable_path
from triptych.contract.reading.loader import load_located
from triptych.contract.verification.onnx_file import check_model_file
from triptych.contract.verification.tree import CONTRACT, MAX_FILES, VERSION, File, Tree, sha256_of, stated_faults
from triptych.contract.verification.trial import trial
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych.contract.verification.triton_config import (
    ConfigError,
    check_config,
    missing_file,
    read_config,
    served_versions,
)

STAYS = "what was read stays in force, restart the controller if that is meant"
LOOK_S = 1.0  # of reading in one look; what is left is read in the next one, so that large items come last

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How files are read: the largest ones, the most in a version, what tells a change, what a contract may cost.

    `has_content`: files are what they seem. In the controller's mirror of a store, large ones have nothing but a size.
    """

    max_file_bytes: int = MAX_BYTES
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    max_files: int = MAX_FILES
    identify: Identify = by_content
    trial: TrialLimits = TrialLimits()
    has_content: bool = True


@dataclass(frozen=True)
class Scan:
    """Everything as it was last read."""

    folders: tuple[Folder, ...]
    documents: tuple[Document | Fault, ...]


class Scanner:
    """Looks at both folders. Does file I/O, so it belongs on a thread; not for two threads at once."""

    def __init__(self, models: Path, documents: Path | None, reading: Reading | None = None) -> None:
        self._models, self._documents, self._reading = models, documents, reading or Reading()
        self.sealer = Sealer(models, self._reading.identify, self._reading.max_files)
        self.more = False  # whether a part was left to the next look
        self.listing_s = 0.0  # what the last look took without reading
        self._published: defaultdict[str, dict[int, Version]] = defaultdict(dict)  # by model and number
        self._folders = _Watched()
        self._files = _Watched()
        self._read_folders: dict[str, Folder] = {}
        self._read_files: dict[str, tuple[Document | Fault, ...]] = {}

    def look(self, *, settle: bool = True, young_s: float = 0.0) -> Scan | None:
        """What holds now; None when nothing changed. Without `settle` everything is read at first sight.

        What changed within the last `young_s` seconds is then read again, and sealed, once it rests. Raises
        `OSError` when a folder itself cannot be listed: then nothing is known to have changed.
        """
        start = time.monotonic()
        listed = list_models(self._models, self._reading.max_files)
        files = list_documents(self._documents) if self._documents is not None else Listed()
        self.listing_s = time.monotonic() - start
        if settle and not listed.prints and any(each.present for each in self._read_folders.values()):
            # An empty folder is a mount that is gone, as far as anybody can tell (tensorflow/serving#1480).
            raise OSError(errno.ENODATA, f"no model is there any more; {STAYS}", os.fspath(self._models))
        self._forget_ensembles(listed)
        changed, gone = self._folders.look(listed.prints, settle)
        for name in gone:
            self._leave(name)
        self.more = False
        for name in self._in_turn(self._folders, changed, listed, settle):
            young = _is_young(listed.prints[name], young_s)
            self._read_folders[name] = self._read_safely(name, listed.faults.get(name, ""), seal=not young)
            if young:
                self._folders.forget(name)
        files_changed = self._look_at_documents(files, settle)
        if not (changed or gone or files_changed):
            return None
        documents = (item for _, items in sorted(self._read_files.items()) for item in items)
        return Scan(tuple(folder for _, folder in sorted(self._read_folders.items())), tuple(documents))

    def _forget_ensembles(self, listed: Listed) -> None:
        """Has ensembles read again when a model came or went: it may be one of their steps."""
        if listed.prints.keys() != self._folders.names:
            for name, folder in self._read_folders.items():
                if name in listed.prints and folder.config.HasField("ensemble_scheduling"):
                    self._folders.forget(name)

    def _leave(self, name: str) -> None:
        """A model whose folder is gone; one that never had a valid version is forgotten."""
        folder = replace(self._without_files(name), removed=True)
        self._read_folders.pop(name, None)
        if folder.versions:
            self._read_folders[name] = folder

    def _in_turn(self, watched: _Watched, names: list[str], listed: Listed, settle: bool) -> Iterator[str]:
        """The smallest first; those for which no time is left are taken for unread, and come with the next look."""
        start = time.monotonic()
        ordered = sorted(names, key=lambda name: total_bytes(listed.prints[name]))
        for at, name in enumerate(ordered):
            if settle and at and time.monotonic() - start > LOOK_S:
                self.more = True
                for left in ordered[at:]:
                    watched.forget(left)
                return
            yield name

    def _look_at_documents(self, listed: Listed, settle: bool) -> bool:
        if self._documents is None:
            return False
        changed, gone = self._files.look(listed.prints, settle)
        for name in gone:
            self._read_files.pop(name, None)
        for name in self._in_turn(self._files, changed, listed, settle):
            self._read_files[name] = self._read_documents(self._documents / name, listed.faults.get(name, ""))
        return bool(changed or gone)

    def _read_documents(self, path: Path, fault: str) -> tuple[Document | Fault, ...]:
        nowhere = Origin(f"{path}:1")
        if fault:
            return (Fault("", f"{path}:1: {fault}", nowhere),)
        try:
            return tuple(read_documents(path, path.parent, self._reading.max_document_bytes))
        except Exception as error:
            log.exception("internal error", extra={"file": str(path)})
            return (Fault("", f"{path}:1: cannot be read: {type(error).__name__}", nowhere),)

    def _read_safely(self, name: str, fault: str, seal: bool) -> Folder:
        """One model folder; whatever is wrong with it, the others are read."""
        if fault:
            return self._unreadable(name, fault)
        try:
            return self._read(self._models / name, seal)
        except NotAtRest:
            self._folders.forget(name)
            return self._read_folders.get(name) or Folder(name, mc.ModelConfig(), {}, problem="is being written")
        except Exception as error:
            log.exception("internal error", extra={"model": name})
            return self._unreadable(name, f"cannot be read: {type(error).__name__}")

    def _read(self, path: Path, seal: bool) -> Folder:
        """One model folder with all that is wrong in it. Raises `NotAtRest`."""
        try:
            text, message = read_config(path, self._models, self._reading.max_file_bytes)
            config = _model_config(message)
            numbers, notes = _versions(path)
        except ConfigError as error:
            return self._without_files(path.name, f"{path}/{error}")
        except OSError as error:
            return self._unreadable(path.name, f"cannot be read: {cause(error)}")
        served = served_versions(config, numbers)
        versions = dict(self._without_files(path.name).versions)
        broken = {}
        for number in numbers:
            try:
                version, note = self._version(path, number, seal)
                self._check(path, version, text, config, served)
            except (ContractError, Unreadable) as error:
                broken[number] = "\n".join(error.lines)
                if number in versions and isinstance(error, Unreadable):
                    versions[number] = replace(versions[number], fault=broken[number])
                continue
            versions[number] = self._publish(path.name, version)
            if version.fault:
                broken[number] = f"{path / str(number)}: {version.fault}"
            notes += [note] if note else []
        return Folder(path.name, config, versions, broken, notes=tuple(notes))

    def _publish(self, model: str, version: Version) -> Version:
        """A version that is whole is what others are compared with."""
        if not version.removed:
            self._published[model][version.number] = version
            if version.files is not None:
                self.sealer.publish((model, version.number), version.files)
        return version

    def _unreadable(self, model: str, why: str) -> Folder:
        """A model as it was published; what is loaded of it is served on."""
        problem = f"{self._models / model}: {why}"
        folder = self._without_files(model, problem)
        return replace(folder, versions={n: replace(each, fault=problem) for n, each in folder.versions.items()})

    def _without_files(self, model: str, problem: str = "") -> Folder:
        """A model as it was published, all its versions removed."""
        known = self._read_folders.get(model)
        versions = {number: replace(version, removed=True) for number, version in self._published[model].items()}
        broken = dict.fromkeys(versions, problem) if problem else {}
        return Folder(model, known.config if known else mc.ModelConfig(), versions, broken, problem)

    def _version(self, model: Path, number: int, seal: bool) -> tuple[Version, str]:
        """A version, and what is to be noted about it. Its contract and files stay what was published."""
        path = model / str(number) / CONTRACT
        published = self._published[model.name].get(number)
        if published is not None and published.files is None:
            # It has no seal yet: what is there now is what is published, unless it was loaded meanwhile.
            sealed = self.sealer.published((model.name, number))
            published = replace(published, files=sealed) if sealed is not None else None
        tree = self.sealer.tree(model.name, number)
        try:
            version = self._load(path, number)
        except ContractError:
            if published is None:
                raise
            version, note = published, f"{path}: cannot be read any more; what was published stays in force"
        else:
            note = _changed_contract(path, published, version)
        stated = version.contract.files
        files = self.sealer.take(model.name, number) if seal or stated else None
        version = published or replace(version, files=files, file_bytes=tree.total_bytes())
        if published is None and stated:
            self._check_stated(path.parent, stated, tree)
        if files is not None and (what := difference(version.files or {}, files)):
            if self.sealer.is_mendable(model.name, number):
                return replace(version, files=files, file_bytes=tree.total_bytes()), note
            return replace(version, removed=True, fault=refusal(number, what)), note
        return version, note

    def _check_stated(self, folder: Path, stated: Mapping[str, str], tree: Tree) -> None:
        """Raises `ContractError` for files that are not as the contract states, whatever a seal is made of.

        Of files without content it can be said only whether they are there; Triton's mirror compares the content.
        """

        def identity(file: File) -> str:
            return sha256_of(f"{folder}/{file.path}") if self._reading.has_content else stated.get(file.path, "")

        faults = stated_faults(stated, tree, identity)
        if lines := [f"{folder}/{printable_path(path)}: {text}" for path, text in faults]:
            raise ContractError(lines)

    def _load(self, path: Path, number: int) -> Version:
        """Raises `ContractError`, also for steps that fail on made-up rows: better here than on the first request."""
        located = load_located(path, self._models, self._reading.max_file_bytes)
        if problems := list(located.lines_of(trial(located.contract, self._reading.trial))):
            raise ContractError(problems)
        contract = located.contract
        canonical = contract.canonical_json()
        digest = hashlib.sha256(canonical).hexdigest()
        return Version(number, contract, canonical, digest, stated=located.identity)

    def _check(self, path: Path, version: Version, text: str, config: mc.ModelConfig, served: set[int]) -> None:
        """Raises `ContractError` for a version that Triton could not serve as its contract says."""
        models = self._folders.names
        problems = [f"{path}/{problem}" for problem in check_config(version.contract, text, path.name, config, models)]
        place = path / str(version.number)
        problems += [f"{place}/{problem}" for problem in check_model_file(version.contract, config, place)]
        if version.number not in served:
            problems.append(f"{path / CONFIG}: version_policy leaves version {version.number} out")
        if missing := missing_file(config, place, self._models):
            problems.append(f"{path}/{missing}")
        if problems:
            raise ContractError(problems)


class _Watched:
    """Fingerprints of one folder's entries: what was read, and what was seen last."""

    def __init__(self) -> None:
        self._seen: Mapping[str, Print] = {}
        self._read: dict[str, Print | None] = {}  # None: to be read again

    @property
    def names(self) -> Collection[str]:
        """Entries that were seen last."""
        return self._seen.keys()

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

    def forget(self, name: str) -> None:
        """Has an entry read again when it rests."""
        self._read[name] = None


def _changed_contract(path: Path, published: Version | None, version: Version) -> str:
    """The note about a contract that is not what was published; '' when it is."""
    if published is None or published.digest == version.digest:
        return ""
    text = "a published contract never changes, what was published stays in force; make a new version"
    return f"{path}: {text}"


def _is_young(found: Print, young_s: float) -> bool:
    return young_s > 0 and newest_s(found) > time.time() - young_s


def _model_config(message: Message) -> mc.ModelConfig:
    config = mc.ModelConfig()
    config.CopyFrom(message)
    return config


def _versions(model: Path) -> tuple[list[int], list[str]]:
    """Numbers of the versions, and a note about each entry that looks like one and is none. Raises `OSError`."""
    numbers, notes = [], []
    with os.scandir(model) as entries:
        for entry in entries:
            try:
                if VERSION.fullmatch(entry.name) and entry.is_dir():
                    numbers.append(int(entry.name))
                elif fault := _no_version(entry):
                    notes.append(f"{model}/{printable(entry.name)}: {fault}")
            except OSError as error:
                notes.append(f"{model}/{printable(entry.name)}: cannot be read: {cause(error)}")
    return sorted(numbers), notes


def _no_version(entry: os.DirEntry[str]) -> str:
    """The sentence about what somebody meant for a version; '' for other files and folders. Raises `OSError`."""
    if VERSION.fullmatch(entry.name):
        return "is no folder; a version is a folder with a whole number"
    if not entry.name.startswith(".") and entry.is_dir() and os.path.lexists(f"{entry.path}/{CONTRACT}"):
        return "has a contract, but its name is no version; want a whole number from 1"
    return ""
