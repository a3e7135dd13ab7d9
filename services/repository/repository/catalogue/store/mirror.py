"""A folder that is kept in step with an object store, so that whoever reads it never sees half of a version.

What changed in a model is brought to a hidden folder beside first, and comes in place by renames once all of it
is there: new folders whole, single files with the contract as the last. A fault leaves the model as it was.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from repository.catalogue.store.objects import Changed, Object, Store, StoreError

CONTRACT = "contract.yaml"
SMALL = (CONTRACT, "config.pbtxt")  # what the repository reads; of the rest it wants to know that it is there
DOWNLOADS = 8  # at once: many small files are mostly waiting
LISTINGS = 3  # in a store that is being written to


class FolderError(OSError):
    """The folder cannot be a mirror: `filename` names it, `strerror` says why and what to do."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(errno.EINVAL, why, str(folder))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True)
class Progress:
    """How far the downloads of one refresh are."""

    files: int
    of_files: int
    came_bytes: int
    of_bytes: int


@dataclass(frozen=True)
class Change:
    """What one refresh did to the folder, in files."""

    brought: int = 0
    removed: int = 0

    def __bool__(self) -> bool:
        return bool(self.brought or self.removed)


Watch = Callable[[Progress], None]


class Mirror:
    """Keeps `folder` in step with a store. Blocks, so it belongs on a thread; not for two threads at once.

    `whole`: every file, for a Triton. Else the content of config.pbtxt and contract.yaml only; each other object
    is a sparse file of its size, so that whoever looks sees that it is there and how large it is.
    """

    def __init__(self, store: Store, folder: Path, *, whole: bool, watch: Watch = lambda progress: None) -> None:
        self.store, self.folder, self._whole, self._watch = store, folder, whole, watch
        self._side = folder.with_name(f".{folder.name}.mirror")  # beside: Triton takes any folder for a model
        self._draft = self._side / "draft"
        self._has: dict[str, Object] = {}
        self._listed: dict[str, Object] | None = None  # with which the folder is in step
        self._lock = -1

    def refresh(self) -> Change:
        """Brings the folder in step. Raises `StoreError` or `OSError`; what could be done is done then.

        A store in which nothing is left is taken for a fault, not for the wish to have no model at all.
        """
        for _ in range(LISTINGS):
            listed = self.store.list()
            if listed == self._listed:
                return Change()
            found = _of_models(listed)
            if self._lock < 0:
                self._open()
                self._recall(found)
            if self._has and not found:
                why = f"{self.store.endpoint}: nothing is there any more; {self.folder} stays as it is"
                raise StoreError(self.store.uri, f"{why}, delete it by hand if that is meant")
            change, changed = self._follow(found)
            if not changed:
                self._listed = listed
                return change
        raise StoreError(self.store.uri, f"{self.store.endpoint}: changes while it is read: {sorted(changed)[0]}")

    def close(self) -> None:
        """Lets another process have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> None:
        """Makes sure that the folder is this mirror's own. Raises `OSError`."""
        folder, side = self.folder, self._side
        want = f"{self.store.uri.rstrip('/')} {'whole' if self._whole else 'contracts'}"
        folder.mkdir(parents=True, exist_ok=True)
        mark = side / "of"
        if any(folder.iterdir()) and (not mark.exists() or mark.read_text() != want):
            is_now = f"is a mirror of {mark.read_text()}" if mark.exists() else "has files of somebody else"
            raise FolderError(folder, f"{is_now}, want an empty folder or a mirror of {want}")
        side.mkdir(exist_ok=True)
        if side.stat().st_dev != folder.stat().st_dev:
            raise FolderError(folder, "is a mount of its own, want a folder within it: versions come by renaming")
        lock = os.open(side / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise FolderError(folder, "another process keeps it in step, want a folder of one's own") from None
        mark.write_text(want)
        self._lock = lock

    def _recall(self, found: Mapping[str, Object]) -> None:
        """What the folder has from before: a file of an object's size and time is that object."""
        for file in (path for path in self.folder.rglob("*") if path.is_file()):
            path, stat = file.relative_to(self.folder).as_posix(), file.stat()
            known = found.get(path)
            same = known is not None and (known.size, known.modified_ns) == (stat.st_size, stat.st_mtime_ns)
            self._has[path] = known if known is not None and same else Object(stat.st_size, stat.st_mtime_ns, "")

    def _follow(self, found: Mapping[str, Object]) -> tuple[Change, set[str]]:
        """Does what a listing asks for; returns also what was no longer as listed."""
        wanted = {path: known for path, known in found.items() if self._has.get(path) != known}
        gone = [path for path in self._has if path not in found]
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir()
        try:
            changed, faults = self._bring(wanted)
            failed = {model_of(path) for path in changed} | set(faults)
            removed = self._remove([path for path in gone if model_of(path) not in failed], found)
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)
        if faults:
            raise faults[min(faults)]
        return Change(sum(self._has.get(path) == known for path, known in wanted.items()), removed), changed

    def _bring(self, wanted: Mapping[str, Object]) -> tuple[set[str], dict[str, StoreError]]:
        """Model by model; returns what changed meanwhile, and the fault of each model that has one of its own."""
        models: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        for path, known in wanted.items():
            models[model_of(path)][path] = known
        meter = _Meter(wanted, self._has_content, self._watch)
        changed, faults = set[str](), dict[str, StoreError]()
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            drafts = {pool.submit(self._download, files, meter): model for model, files in models.items()}
            try:
                for draft in as_completed(drafts):
                    model = drafts[draft]
                    self._settle(draft, model, models[model], changed, faults)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                meter.stop()
                raise
        return changed, faults

    def _settle(
        self,
        draft: Future[None],
        model: str,
        files: Mapping[str, Object],
        changed: set[str],
        faults: dict[str, StoreError],
    ) -> None:
        try:
            draft.result()
        except Changed as error:
            changed.add(str(error))
        except StoreError as error:
            if error.away:
                raise
            faults[model] = error
        else:
            self._place(model, files)
            self._has.update(files)

    def _has_content(self, path: str) -> bool:
        return self._whole or path.rpartition("/")[2] in SMALL

    def _download(self, files: Mapping[str, Object], meter: _Meter) -> None:
        for path, known in files.items():
            draft = self._draft / path
            draft.parent.mkdir(parents=True, exist_ok=True)
            if self._has_content(path):
                self.store.read(path, known, draft, meter.came)
                meter.done()
            else:
                draft.touch()
                os.truncate(draft, known.size)
            os.utime(draft, ns=(known.modified_ns, known.modified_ns))

    def _place(self, model: str, paths: Iterable[str]) -> None:
        """New folders whole, then files; the contract last, for it says that a version is complete."""
        left = sorted(paths, key=_last_is_contract)
        for folder in dict.fromkeys([model, *(version_of(path) for path in left)]):
            if folder and not (self.folder / folder).exists():
                os.rename(self._draft / folder, self.folder / folder)
                left = [path for path in left if not path.startswith(f"{folder}/")]
        for path in left:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._draft / path, self.folder / path)

    def _remove(self, gone: Collection[str], found: Mapping[str, Object]) -> int:
        """Folders of which nothing is left at once, of others the contract first: the order of coming, backwards."""
        folders = _folders(found)
        for path in sorted(gone, key=_last_is_contract, reverse=True):
            whole = next((part for part in (model_of(path), version_of(path)) if part and part not in folders), "")
            if whole and (self.folder / whole).exists():
                os.rename(self.folder / whole, self._draft / f"gone-{whole.replace('/', '-')}")
            elif not whole:
                (self.folder / path).unlink(missing_ok=True)
                self._prune((self.folder / path).parent, folders)
            del self._has[path]
        return len(gone)

    def _prune(self, folder: Path, folders: Collection[str]) -> None:
        with suppress(OSError):  # somebody put a file of his own there
            while folder.relative_to(self.folder).as_posix() not in folders:
                folder.rmdir()
                folder = folder.parent


class _Meter:
    """Counts what many threads download, and ends them."""

    def __init__(self, wanted: Mapping[str, Object], has_content: Callable[[str], bool], watch: Watch) -> None:
        sizes = [known.size for path, known in wanted.items() if has_content(path)]
        self._of_files, self._of_bytes, self._watch = len(sizes), sum(sizes), watch
        self._files = self._bytes = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def came(self, count: int) -> None:
        if self._stopped.is_set():
            raise InterruptedError("another download failed")
        self._tell(0, count)

    def done(self) -> None:
        self._tell(1, 0)

    def stop(self) -> None:
        self._stopped.set()

    def _tell(self, files: int, count: int) -> None:
        with self._lock:
            self._files += files
            self._bytes += count
            self._watch(Progress(self._files, self._of_files, self._bytes, self._of_bytes))


def _of_models(listed: Mapping[str, Object]) -> dict[str, Object]:
    """What lies in a model's folder. A name that is also the folder of other objects can be no file."""
    folders = _folders(listed)
    return {path: known for path, known in listed.items() if "/" in path and path not in folders}


def _folders(paths: Iterable[str]) -> set[str]:
    """All folders that these files lie in, '.' among them."""
    folders = {"."}
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    return folders


def model_of(path: str) -> str:
    """The model's folder."""
    return path.partition("/")[0]


def version_of(path: str) -> str:
    """The version's folder, '' for a file of the model itself."""
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else ""


def _last_is_contract(path: str) -> tuple[bool, str]:
    return path.rpartition("/")[2] == CONTRACT, path
