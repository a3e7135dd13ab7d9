"""The integrity of published versions: records the digests of their files, and refuses files that differ."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controller.catalog.digests import FileDigests, difference, refusal
from triptych.contract.reading.files import cause
from triptych.contract.verification.tree import MAX_FILES, File, UnreadableFiles, sha256_of, version_tree

DigestFunction = Callable[[str, File], str]  # the digest of a file, by its path on disk; raises `OSError`
Key = tuple[str, int]  # model and version


class FileChanging(Exception):
    """A file was written while its digest was computed."""


def sha256_digest(path: str, file: File) -> str:
    """`sha256:<hex>` of the content."""
    return sha256_of(path)


def stat_digest(path: str, file: File) -> str:
    """`stat:<size>-<mtime>`, for files that are not read: many gigabytes, or placeholders of a store."""
    return f"stat:{file.size}-{file.stamp[1]}"


class IntegrityChecker:
    """Computes and compares digests. It blocks on files; any thread may use it. Unchanged files are read once."""

    def __init__(self, models: Path, digest_of: DigestFunction = sha256_digest, max_files: int = MAX_FILES) -> None:
        self._models, self._digest_of, self._max_files = models, digest_of, max_files
        self._known: dict[Key, tuple[list[File], FileDigests]] = {}  # as last computed
        self._published: dict[Key, FileDigests] = {}
        self._before_load: dict[Key, FileDigests] = {}
        self._loaded: set[Key] = set()
        self._replaceable: set[Key] = set()  # a load failed, and none succeeded
        self._lock = threading.Lock()

    def file_digests(self, model: str, number: int) -> FileDigests:
        """The digest of each file of a version. Raises `UnreadableFiles` and `FileChanging`."""
        key, folder = (model, number), self._models / model / str(number)
        found = version_tree(folder, self._models, self._max_files)
        files, digests = self._known.get(key, ([], {}))
        if files == found.files:
            return digests
        known = {file: digests[file.path] for file in files}
        digests = {file.path: known.get(file) or self._digest(folder, file) for file in found.files}
        if version_tree(folder, self._models, self._max_files).files != found.files:
            raise FileChanging
        with self._lock:
            self._known[key] = found.files, digests
        return digests

    def _digest(self, folder: Path, file: File) -> str:
        """Raises `UnreadableFiles`."""
        try:
            return self._digest_of(f"{folder}/{file.path}", file)
        except OSError as error:
            raise UnreadableFiles([f"{folder}/{file.path}: cannot be read: {cause(error)}"]) from None

    def record(self, key: Key, files: FileDigests) -> None:
        """Record the digests of a published version."""
        with self._lock:
            self._published[key] = files

    def recorded(self, key: Key) -> FileDigests | None:
        """The recorded digests; None before they are recorded."""
        with self._lock:
            return self._published.get(key)

    def load_failed(self, model: str, number: int) -> None:
        """Allow other files for a version that was never loaded: no caller got an answer from the old ones."""
        with self._lock:
            if (model, number) not in self._loaded:
                self._replaceable.add((model, number))

    def may_be_replaced(self, model: str, number: int) -> bool:
        """Whether other files may replace the published ones."""
        with self._lock:
            return (model, number) in self._replaceable

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded; '' if its files are the published ones, or all gone.

        Call it before and after a load: a version without recorded digests gets those of the files that were loaded.
        """
        key = (model, number)
        with self._lock:
            recorded = None if key in self._replaceable else self._published.get(key)
            if recorded is None and loaded:
                recorded = self._before_load.get(key)
        if not (self._models / model / str(number)).exists():
            return ""
        try:
            files = self.file_digests(model, number)
        except UnreadableFiles as error:
            return refusal(number, str(error))
        except FileChanging:
            return refusal(number, "a file is being written")
        if what := difference(recorded, files) if recorded is not None else "":
            return refusal(number, what)
        with self._lock:
            if loaded:
                self._published[key] = files
                self._loaded.add(key)
                self._replaceable.discard(key)
            else:
                self._before_load[key] = files
        return ""
