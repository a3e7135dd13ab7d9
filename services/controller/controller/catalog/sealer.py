"""Takes the seals of versions in a folder, and says whether their files are still what was published."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controller.catalog.seal import Identities, difference, refusal
from triptych.contract.reading.files import cause, resolved
from triptych.contract.verification.tree import CONTRACT, MAX_FILES, File, Tree, sha256_of, tree_of

Identify = Callable[[str, File], str]  # of a file, by its path on disk. Raises `OSError`
Key = tuple[str, int]  # model and version


class NotAtRest(Exception):
    """A file was written while its identity was taken."""


class Unreadable(Exception):
    """A file of a version that cannot be read; each line names one."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def by_content(path: str, file: File) -> str:
    """`sha256:<hex>`."""
    return sha256_of(path)


def by_stat(path: str, file: File) -> str:
    """`stat:<size>-<mtime>`: for files that are not read, as they are many gigabytes or lie in a store."""
    return f"stat:{file.size}-{file.stamp[1]}"


class Sealer:
    """Reads files, so it belongs on a thread; any thread may use it. A file is read again only after a change."""

    def __init__(self, models: Path, identify: Identify = by_content, max_files: int = MAX_FILES) -> None:
        self._models, self._identify, self._max_files = models, identify, max_files
        self._known: dict[Key, dict[str, tuple[File, str]]] = {}
        self._published: dict[Key, Identities] = {}
        self._before_load: dict[Key, Identities] = {}
        self._loaded: set[Key] = set()
        self._mendable: set[Key] = set()  # could not be loaded, and never was
        self._lock = threading.Lock()

    def tree(self, model: str, number: int) -> Tree:
        """The files of a version, without its contract. Raises `Unreadable`."""
        folder = self._models / model / str(number)
        try:
            found = tree_of(folder, resolved(self._models), self._max_files)
        except OSError as error:
            raise Unreadable([f"{folder}: cannot be read: {cause(error)}"]) from None
        if found.faults:
            raise Unreadable([f"{folder}/{fault}" for fault in found.faults])
        return Tree([file for file in found.files if file.path != CONTRACT])

    def take(self, model: str, number: int) -> Identities:
        """The identity of each file of a version. Raises `Unreadable` and `NotAtRest`."""
        key, folder = (model, number), self._models / model / str(number)
        found = self.tree(model, number)
        known = self._known.get(key, {})
        now = {}
        for file in found.files:
            before = known.get(file.path)
            try:
                identity = before[1] if before and before[0] == file else self._identify(f"{folder}/{file.path}", file)
            except OSError as error:
                raise Unreadable([f"{folder}/{file.path}: cannot be read: {cause(error)}"]) from None
            now[file.path] = (file, identity)
        if now != known and self.tree(model, number).files != found.files:
            raise NotAtRest
        with self._lock:
            self._known[key] = now
        return {path: identity for path, (_, identity) in now.items()}

    def publish(self, key: Key, files: Identities) -> None:
        """What the version is from now on."""
        with self._lock:
            self._published[key] = files

    def published(self, key: Key) -> Identities | None:
        """What the version is; None as long as it has no seal."""
        with self._lock:
            return self._published.get(key)

    def load_failed(self, model: str, number: int) -> None:
        """Triton could not load it: its files may be mended in place, for nobody was ever answered with them."""
        with self._lock:
            if (model, number) not in self._loaded:
                self._mendable.add((model, number))

    def is_mendable(self, model: str, number: int) -> bool:
        """Whether other files may take the place of those that were published."""
        with self._lock:
            return (model, number) in self._mendable

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded; '' when its files are what was published, or all gone.

        Ask before and after a load: a version without a seal is sealed with the files that were loaded.
        """
        key = (model, number)
        with self._lock:
            published = None if key in self._mendable else self._published.get(key)
            if published is None and loaded:
                published = self._before_load.get(key)
        if not (self._models / model / str(number)).exists():
            return ""
        try:
            files = self.take(model, number)
        except Unreadable as error:
            return refusal(number, str(error))
        except NotAtRest:
            return refusal(number, "a file is being written")
        if what := difference(published, files) if published is not None else "":
            return refusal(number, what)
        with self._lock:
            if loaded:
                self._published[key] = files
                self._loaded.add(key)
                self._mendable.discard(key)
            else:
                self._before_load[key] = files
        return ""
