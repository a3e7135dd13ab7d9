"""Scans the model repository and the folder of ServedModel documents; later scans read only changed entries.

A new entry is read once nothing in it, at any depth, changed between two scans: a folder that is still being copied is
not taken for an invalid one. A version is kept once it is published: if its files disappear, change or cannot be read
any more, it is marked as removed, for it may be in traffic. A fault affects its own model only.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as mc

from controller.catalog.change_tracker import ChangeTracker, is_young
from controller.catalog.digests import DIFFERS, difference, refusal
from controller.catalog.entities import NO_FILES, Edit, ScannedModel, Version
from controller.catalog.fingerprints import FolderListing, list_documents, list_models
from controller.catalog.integrity import DigestFunction, FileChanging, IntegrityChecker, sha256_digest
from controller.catalog.served_model import MAX_BYTES as MAX_DOCUMENT_BYTES
from controller.catalog.served_model import Document, DocumentFault, DocumentSource, read_documents
from triptych.contract import ContractError
from triptych.contract.reading.files import cause
from triptych.contract.reading.loader import LocatedContract
from triptych.contract.verification.families import VersionIdentity
from triptych.contract.verification.model_folder import NO_VERSION, ModelFolder, folder_with_config, read_model_folder
from triptych.contract.verification.tree import CONTRACT, UnreadableFiles
from triptych.contract.verification.triton_config import FILE, ConfigError
from triptych.contract.verification.version import ValidationOptions, missing_model_file, validate_version

STAYS = "what was read stays in force, restart the controller if that is meant"
SCAN_S = 1.0  # of reading in one scan; the rest follows in the next one, so that large entries come last

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanOptions:
    """The bounds of a validation, the largest file of documents, and the digest that detects a changed file."""

    validation: ValidationOptions = ValidationOptions()
    max_document_bytes: int = MAX_DOCUMENT_BYTES
    digest_of: DigestFunction = sha256_digest


@dataclass(frozen=True)
class Scan:
    """All models and documents as they were last read."""

    folders: tuple[ScannedModel, ...]
    documents: tuple[Document | DocumentFault, ...]


class Scanner:
    """Scans both folders. It blocks on files; only one thread at a time may use it."""

    def __init__(self, models: Path, documents: Path | None, options: ScanOptions | None = None) -> None:
        self._models, self._documents, self._options = models, documents, options or ScanOptions()
        self.integrity = IntegrityChecker(models, self._options.digest_of, self._options.validation.max_files)
        self.more = False  # whether entries were left to the next scan
        self.listing_s = 0.0  # duration of the last listing, without reading
        self._published: defaultdict[str, dict[int, Version]] = defaultdict(dict)  # by model and number
        self._folders = ChangeTracker()
        self._files = ChangeTracker()
        self._model_names: Collection[str] = ()
        self._read_folders: dict[str, ScannedModel] = {}
        self._read_files: dict[str, tuple[Document | DocumentFault, ...]] = {}

    def scan(self, *, settle: bool = True, young_s: float = 0.0) -> Scan | None:
        """The current models and documents; None if nothing changed. Without `settle` new entries are read at once.

        An entry that was written within the last `young_s` seconds is read again once it has settled, and its digests
        are recorded then. Raises `OSError` if a folder itself cannot be listed: no change is known then.
        """
        start = time.monotonic()
        listed = list_models(self._models, self._options.validation.max_files)
        files = list_documents(self._documents) if self._documents is not None else FolderListing()
        self.listing_s = time.monotonic() - start
        if settle and not listed.fingerprints and any(each.present for each in self._read_folders.values()):
            # An empty folder is the same as a lost mount (tensorflow/serving#1480).
            raise OSError(errno.ENODATA, f"no model is there any more; {STAYS}", os.fspath(self._models))
        self._forget_ensembles(listed)
        changed, gone = self._folders.update(listed.fingerprints, settle)
        for name in gone:
            self._mark_removed(name)
        self.more = False
        for name in self._smallest_first(self._folders, changed, listed, settle):
            young = is_young(listed.fingerprints[name], young_s)
            self._read_folders[name] = self._read_safely(name, listed.faults.get(name, ""), with_digests=not young)
            if young:
                self._folders.forget(name)
        files_changed = self._scan_documents(files, settle)
        if not (changed or gone or files_changed):
            return None
        documents = (item for _, items in sorted(self._read_files.items()) for item in items)
        return Scan(tuple(folder for _, folder in sorted(self._read_folders.items())), tuple(documents))

    def _forget_ensembles(self, listed: FolderListing) -> None:
        """Has ensembles read again if a model was added or removed: it may be one of their steps."""
        names = listed.fingerprints.keys() - listed.faults.keys()
        if names != self._model_names:
            self._model_names = names
            for name, folder in self._read_folders.items():
                if name in listed.fingerprints and folder.config.HasField("ensemble_scheduling"):
                    self._folders.forget(name)

    def _mark_removed(self, name: str) -> None:
        """Mark a model as removed if its folder is gone; forget it if it never had a valid version."""
        folder = replace(self._without_files(name), removed=True)
        self._read_folders.pop(name, None)
        if folder.versions:
            self._read_folders[name] = folder

    def _smallest_first(
        self, tracker: ChangeTracker, names: list[str], listed: FolderListing, settle: bool
    ) -> Iterator[str]:
        """The smallest entries first. Entries for which no time is left are read in the next scan."""
        start = time.monotonic()
        ordered = sorted(names, key=lambda name: listed.fingerprints[name].total_bytes)
        for at, name in enumerate(ordered):
            if settle and at and time.monotonic() - start > SCAN_S:
                self.more = True
                for left in ordered[at:]:
                    tracker.forget(left)
                return
            yield name

    def _scan_documents(self, listed: FolderListing, settle: bool) -> bool:
        if self._documents is None:
            return False
        changed, gone = self._files.update(listed.fingerprints, settle)
        for name in gone:
            self._read_files.pop(name, None)
        for name in self._smallest_first(self._files, changed, listed, settle):
            self._read_files[name] = self._read_documents(self._documents / name, listed.faults.get(name, ""))
        return bool(changed or gone)

    def _read_documents(self, path: Path, fault: str) -> tuple[Document | DocumentFault, ...]:
        nowhere = DocumentSource(f"{path}:1")
        if fault:
            return (DocumentFault("", f"{path}:1: {fault}", nowhere),)
        try:
            return tuple(read_documents(path, path.parent, self._options.max_document_bytes))
        except Exception as error:
            log.exception("internal error", extra={"file": str(path)})
            return (DocumentFault("", f"{path}:1: cannot be read: {type(error).__name__}", nowhere),)

    def _read_safely(self, name: str, fault: str, with_digests: bool) -> ScannedModel:
        """Read one model folder; any error is a fault of this model only."""
        if fault:
            return self._unreadable(name, fault)
        try:
            return self._read(self._models / name, with_digests)
        except FileChanging:
            self._folders.forget(name)
            return self._read_folders.get(name) or ScannedModel(name, b"", {}, problem="is being written")
        except Exception as error:
            log.exception("internal error", extra={"model": name})
            return self._unreadable(name, f"cannot be read: {type(error).__name__}")

    def _read(self, path: Path, with_digests: bool) -> ScannedModel:
        """One model folder with all its faults. Raises `FileChanging`.

        A configuration is published with its versions: an edit of it is ignored, until it comes with a new version.
        """
        max_bytes, edits = self._options.validation.max_file_bytes, []
        try:
            published = self._published_config(path)
            try:
                model = read_model_folder(path, self._models, max_bytes)
            except ConfigError as error:
                if published is None:
                    return self._without_files(path.name, f"{path}/{error}")
                model = folder_with_config(path, self._models, published)
                edits = [Edit(None, f"{path / FILE}: {DIFFERS} (as it is now, it cannot be read: {error})")]
            if published is not None and model.config != published and not self._brings_version(model):
                model = folder_with_config(path, self._models, published)
                edits = [Edit(None, f"{path / FILE}: {DIFFERS}")]
        except OSError as error:
            return self._unreadable(path.name, f"cannot be read: {cause(error)}")
        return self._read_versions(model, with_digests, edits)

    def _published_config(self, path: Path) -> mc.ModelConfig | None:
        """The configuration that stays in force; None if it may change.

        It may as long as no version on disk has digests, and if none of them could be loaded.
        """
        known = self._read_folders.get(path.name)
        if known is None:
            return None
        versions = (self._published_version(path.name, number) for number in self._published[path.name])
        sealed = [version.number for version in versions if version is not None and version.files is not None]
        on_disk = [number for number in sealed if (path / str(number)).exists()]
        may_change = all(self.integrity.may_be_replaced(path.name, number) for number in on_disk)
        return None if may_change else known.config

    def _brings_version(self, model: ModelFolder) -> bool:
        """Whether an edited configuration comes with a new version, and fits all versions on disk."""
        published = self._published[model.name]
        if published.keys() >= set(model.versions):
            return False
        options = self._options.validation
        try:
            for number in model.versions:
                contract = published[number].contract if number in published else None
                validate_version(model, number, self._model_names, options, contract)
        except ContractError:
            return False
        return True

    def _read_versions(self, model: ModelFolder, with_digests: bool, edits: list[Edit]) -> ScannedModel:
        """The versions of a model with their faults. Raises `FileChanging`."""
        path = model.path
        versions = dict(self._without_files(path.name).versions)
        invalid = {}
        for number in model.versions:
            try:
                version, edit = self._version(model, number, with_digests)
            except ContractError as error:
                text = "".join(f"\n{edit.text}" for edit in edits)  # it may be what would mend a new version
                invalid[number] = "\n".join(error.lines) + text
                if number in versions and isinstance(error, UnreadableFiles):
                    versions[number] = replace(versions[number], fault=invalid[number])
                continue
            versions[number] = self._publish(path.name, version)
            if version.fault:
                invalid[number] = f"{path / str(number)}: {version.fault}"
            edits = edits if edit is None else [*edits, edit]
        problem = "" if model.versions else f"{path}: {NO_VERSION}"
        encoded_config = model.config.SerializeToString(deterministic=True)
        return ScannedModel(path.name, encoded_config, versions, invalid, problem, model.faults, edits=tuple(edits))

    def _publish(self, model: str, version: Version) -> Version:
        """Record a version that is not removed as published; later scans compare with it."""
        if not version.removed:
            self._published[model][version.number] = version
            if version.files is not None:
                self.integrity.record((model, version.number), version.files)
        return version

    def _unreadable(self, model: str, why: str) -> ScannedModel:
        """The model as it was published, all versions with a fault: loaded versions stay served."""
        problem = f"{self._models / model}: {why}"
        folder = self._without_files(model, problem)
        return replace(folder, versions={n: replace(each, fault=problem) for n, each in folder.versions.items()})

    def _without_files(self, model: str, problem: str = "") -> ScannedModel:
        """The model as it was published, all versions removed."""
        known = self._read_folders.get(model)
        versions = {number: replace(version, removed=True) for number, version in self._published[model].items()}
        invalid = dict.fromkeys(versions, problem) if problem else {}
        return ScannedModel(model, known.encoded_config if known else b"", versions, invalid, problem)

    def _version(self, model: ModelFolder, number: int, with_digests: bool) -> tuple[Version, Edit | None]:
        """A valid version, and the edit of its contract. Raises `ContractError` and `FileChanging`."""
        published = self._published_version(model.name, number)
        if published is None:
            return self._new_version(model, number, with_digests), None
        return self._known_version(model, published, with_digests)

    def _published_version(self, model: str, number: int) -> Version | None:
        """The version as it was published; None if it has no digests yet, so that its current files are published."""
        published = self._published[model].get(number)
        if published is None or published.files is not None:
            return published
        recorded = self.integrity.recorded((model, number))  # it was loaded meanwhile
        return replace(published, files=recorded) if recorded is not None else None

    def _new_version(self, model: ModelFolder, number: int, with_digests: bool) -> Version:
        valid = validate_version(model, number, self._model_names, self._options.validation)
        contract, canonical = valid.contract, valid.contract.canonical_json()
        files = self.integrity.file_digests(model.name, number) if with_digests or contract.files else None
        return Version(
            number,
            VersionIdentity.of(contract),
            canonical,
            hashlib.sha256(canonical).hexdigest(),
            file_bytes=valid.tree.total_bytes(),
            files=files,
            source_digest=valid.located.identity if valid.located else "",
            step_files=valid.step_files or NO_FILES,
        )

    def _known_version(self, model: ModelFolder, published: Version, with_digests: bool) -> tuple[Version, Edit | None]:
        """A published version keeps its contract and its files; with other files it is not loaded again."""
        number = published.number
        contract = published.contract
        wanted = with_digests or contract.files
        files = self.integrity.file_digests(model.name, number) if wanted else None
        changed = difference(published.files or {}, files) if files is not None else ""
        if changed and not self.integrity.may_be_replaced(model.name, number):
            if missing := missing_model_file(model, number):
                raise ContractError(missing)
            return replace(published, removed=True, fault=refusal(number, changed)), None
        valid = validate_version(model, number, self._model_names, self._options.validation, contract)
        if changed:
            published = replace(published, files=files, file_bytes=valid.tree.total_bytes())
        if files is not None and valid.step_files != published.step_files:  # also those of a version read while young
            published = replace(published, step_files=valid.step_files)
        return published, _contract_edit(model.path / str(number) / CONTRACT, published, valid.located)


def _contract_edit(path: Path, published: Version, located: LocatedContract | None) -> Edit | None:
    """A contract that differs from the published one; None if it is the same."""
    if located is None:
        return Edit(published.number, f"{path}: {DIFFERS} (as it is now, it cannot be read)")
    now = located.contract
    if now.canonical_json() == published.canonical:
        return None
    target = (now.family, now.route)
    family, route = target if target != published.identity[:2] else ("", "")
    return Edit(published.number, f"{path}: {DIFFERS}", family, route)
