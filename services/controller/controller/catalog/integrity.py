"""Takes the seals of versions in a folder, and says whether their files are still what was published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controller.catalog.digests import FileDigests, difference, refusal
from triptych.contract.reading.files import cause
from triptych.contract.verification.tree import MAX_FILES, File, UnreadableFiles, sha256_of, version_tree

DigestFunction = Callable[[str, File], str]  # of a file, by its path on disk. Raises `OSError`
Key = tuple[str, int]  # model and version


class FileChanging(Exception):
    """A file was written while its identity was taken."""


def sha256_digest(path: str, file: File) -> str:
    """`sha256:<hex>`."""
    return sha256_of(path)


def stat_digest(path: str, file: File) -> str:
    """`stat:<size>-<mtime>`: for files that are not read, as they are many gigabytes or lie in a store."""
    return f"stat:{file.size}-{file.stamp[1]}"


class IntegrityChecker:
    """Reads files, so it belongs on a thread; any thread may use it. A file is read again only after a change."""

    def __init__(self, models: Path, digest_of: DigestFunction = sha256_digest, max_files: int = MAX_FILES) -> None:
        self._models, self._digest_of, self._max_files = models, digest_of, max_files
        self._known: dict[Key, dict[str, tuple[File, str]]] = {}
        self._published: dict[Key, FileDigests] = {}
        self._before_load: dict[Key, FileDigests] = {}
        self._loaded: set[Key] = set()
        self._replaceable: set[Key] = set()  # could not be loaded, and never was
        self._lock = threading.Lock()

    def file_digests(self, model: str, number: int) -> FileDigests:
        """The identity of each file of a version. Raises `UnreadableFiles` and `FileChanging`."""
        key, folder = (model, number), self._models / model / str(number)
        found = version_tree(folder, self._models, self._max_files)
        known = self._known.get(key, {})
        now = {}
        for file in found.files:
            before = known.get(file.path)
            try:
                digest = before[1] if before and before[0] == file else self._digest_of(f"{folder}/{file.path}", file)
            except OSError as error:
                raise UnreadableFiles([f"{folder}/{file.path}: cannot be read: {cause(error)}"]) from None
            now[file.path] = (file, digest)
        if now != known and version_tree(folder, self._models, self._max_files).files != found.files:
            raise FileChanging
        with self._lock:
            self._known[key] = now
        return {path: digest for path, (_, digest) in now.items()}

    def record(self, key: Key, files: FileDigests) -> None:
        """What the version is from now on."""
        with self._lock:
            self._published[key] = files

    def recorded(self, key: Key) -> FileDigests | None:
        """What the version is; None as long as it has no seal."""
        with self._lock:
            return self._published.get(key)

    def load_failed(self, model: str, number: int) -> None:
        """Triton could not load it: its files may be mended in place, for nobody was ever answered with them."""
        with self._lock:
            if (model, number) not in self._loaded:
                self._replaceable.add((model, number))

    def may_be_replaced(self, model: str, number: int) -> bool:
        """Whether other files may take the place of those that were published."""
        with self._lock:
            return (model, number) in self._replaceable

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded; '' when its files are what was published, or all gone.

        Ask before and after a load: a version without a seal is sealed with the files that were loaded.
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
