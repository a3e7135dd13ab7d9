"""A folder that is kept in step with an object store, so that whoever reads it never sees half of a version.

What changed in a model is brought to a hidden folder beside first, and comes in place by renames once all of it
is there: new folders whole, single files with the contract as the last. An object that cannot be read leaves its
version as it was; the other versions and models go on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from controller.catalog.seal import difference
from controller.catalog.store.failures import Failures
from controller.catalog.store.keys import folders_of, model_of, sort_out, unit_of, version_of
from controller.catalog.store.objects import Changed, Object, Store, StoreError
from controller.catalog.store.seals import Seals, not_as_stated
from triptych.contract.reading.files import printable_path
from triptych.contract.verification.tree import CONTRACT

SMALL = (CONTRACT, "config.pbtxt")  # what the controller reads; of the rest it wants to know that it is there
DOWNLOADS = 8  # at once: many small files are mostly waiting
LISTINGS = 3  # in a store that is being written to
OWN = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR)  # of one file, not of the disk


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


@dataclass
class _Brought:
    """One model in the draft: the files that are there whole, and what failed, by version or file."""

    files: dict[str, Object] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)  # the key that is no longer as listed
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # key and sentence


Watch = Callable[[Progress], None]


class Mirror:
    """Keeps `folder` in step with a store. Blocks, so it belongs on a thread; not for two threads at once.

    `whole`: every file, for a Triton. Else the content of config.pbtxt and contract.yaml only; each other object
    is a sparse file of its size, so that whoever looks sees that it is there and how large it is.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        whole: bool,
        watch: Watch = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.folder, self._whole, self._watch = store, folder, whole, watch
        self.faults: Mapping[str, str] = {}  # why objects are left out, one sentence each, by key
        self._side = folder.with_name(f".{folder.name}.mirror")  # beside: Triton takes any folder for a model
        self._draft = self._side / "draft"
        self._has: dict[str, Object] = {}
        self._seals = Seals(self._side / "seals.json") if whole else None
        self._failures = Failures(clock)
        self._listed: dict[str, Object] | None = None  # with which the folder is in step
        self._lock = -1

    def refresh(self) -> Change:
        """Brings the folder in step, and says in `faults` what is left out. Raises `StoreError` or `OSError`.

        A store in which nothing is left is taken for a fault, not for the wish to have no model at all.
        """
        total = Change()
        for last in (False,) * (LISTINGS - 1) + (True,):
            listed = self.store.list()
            if listed == self._listed and not self._failures:
                break
            found = sort_out(listed)
            files = found.files
            if self._lock < 0:
                self._open()
                self._recall(files)
            if self._has and not files:
                why = f"{self.store.endpoint}: nothing is there any more; {self.folder} stays as it is"
                raise StoreError(self.store.uri, f"{why}, delete it by hand if that is meant")
            change, changed, sealed = self._follow(files, last=last)
            total = Change(total.brought + change.brought, total.removed + change.removed)
            faults = found.faults | sealed | self._failures.by_key
            self.faults = {key: self._sentence(key, why) for key, why in faults.items()}
            if not changed:
                self._listed = listed
                break
        return total

    def identity(self, path: str) -> str:
        """Of an object as it was listed last, as a seal has it; '' when there is none."""
        known = self._has.get(path)
        return known.identity if known else ""

    def differs(self, model: str, number: int) -> str:
        """Which files of a version are not as the folder has them, by a listing of its own; any thread may ask.

        '' if none are, or if the store does not answer: a store that is away takes nothing away.
        """
        below = f"{model}/{number}/"
        try:
            found = sort_out(self.store.list(below)).files
        except StoreError:
            return ""
        here = {path: known for path, known in list(self._has.items()) if path.startswith(below)}
        return difference(_identities(here, below), _identities(found, below))

    def close(self) -> None:
        """Lets another process have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _sentence(self, key: str, why: str) -> str:
        return f"{self.store.uri}/{printable_path(key)}: {why}"

    def _open(self) -> None:
        """Makes sure that the folder is this mirror's own. Raises `OSError`."""
        folder, side = self.folder, self._side
        want = f"{self.store.uri.rstrip('/')} {'whole' if self._whole else 'contracts'}"
        folder.mkdir(mode=0o777 if self._whole else 0o700, parents=True, exist_ok=True)  # the controller's is its own
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
            now = Object(stat.st_size, stat.st_mtime_ns, "")
            sealed = self._seals.get(path) if self._seals else None
            known = next((each for each in (sealed, found.get(path)) if each and _is_file_of(each, now)), None)
            self._has[path] = known or now

    def _follow(self, found: Mapping[str, Object], *, last: bool) -> tuple[Change, set[str], dict[str, str]]:
        """Does what a listing asks for; returns also what was no longer as listed, and what is sealed."""
        wanted = {path: known for path, known in found.items() if not self._is_here(path, known)}
        sealed = self._seals.refused(wanted, found) if self._seals else {}
        wanted = self._failures.due({path: known for path, known in wanted.items() if path not in sealed})
        gone = {path for path in self._has if path not in found}
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir()
        try:
            removed = self._remove(_in_the_way(gone, wanted), found)
            changed = self._bring(wanted, last=last)
            removed += self._remove([path for path in gone if path in self._has], found)
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)
            if self._seals:
                self._seals.take(self._has, found)
        brought = sum(self._has.get(path) == known for path, known in wanted.items())
        return Change(brought, removed), changed, sealed

    def _is_here(self, path: str, known: Object) -> bool:
        """Whether the folder has it; the same content that was uploaded once more is not read again."""
        has = self._has.get(path)
        return has is not None and has.same(known) and (bool(has.tag) or has == known)

    def _bring(self, wanted: Mapping[str, Object], *, last: bool) -> set[str]:
        """Model by model; returns what changed meanwhile, which is a fault if this was the last listing."""
        models: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        for path, known in wanted.items():
            models[model_of(path)][path] = known
        meter = _Meter(wanted, self._has_content, self._watch)
        changed = set[str]()
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            left = {pool.submit(self._download, files, meter): model for model, files in models.items()}
            try:
                for draft in as_completed(list(left)):
                    changed |= self._settle(draft, left.pop(draft), wanted, last=last)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                meter.stop()
                for draft, model in left.items():  # what came whole before is put in place
                    if draft.done() and not draft.cancelled() and draft.exception() is None:
                        self._settle(draft, model, wanted, last=last)
                raise
        return changed

    def _settle(self, draft: Future[_Brought], model: str, wanted: Mapping[str, Object], *, last: bool) -> set[str]:
        """Puts one model in place; returns what changed meanwhile. Raises `StoreError` when the store is away."""
        brought = draft.result()
        if brought.files:
            self._place(model, brought.files)
            self._has.update(brought.files)
        for path in brought.files:
            self._failures.forget(path)
        for unit, (key, why) in brought.failed.items():
            self._failures.fail(unit, key, why, wanted)
        if last:
            for unit, key in brought.changed.items():
                self._failures.fail(unit, key, "changes while it is read, or is not what the listing says", wanted)
            return set()
        return set(brought.changed.values())

    def _has_content(self, path: str) -> bool:
        return self._whole or path.rpartition("/")[2] in SMALL

    def _download(self, files: Mapping[str, Object], meter: _Meter) -> _Brought:
        """One model into the draft, version by version. Raises `StoreError` when the store is away."""
        units: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        for path, known in files.items():
            units[unit_of(path)][path] = known
        brought = _Brought()
        for unit, parts in units.items():
            key = ""
            try:
                for key in parts:
                    self._fetch(key, parts[key], meter)
                if why := self._not_as_stated(unit):
                    brought.failed[unit] = f"{unit}/{CONTRACT}", why
                else:
                    brought.files.update(parts)
                    continue
            except Changed:
                brought.changed[unit] = key
            except StoreError as error:
                if error.away and not self.store.answers():
                    raise
                brought.failed[unit] = key, f"cannot be read: {error.strerror}"
            except OSError as error:
                if error.errno not in OWN:
                    raise
                brought.failed[unit] = key, f"cannot be a file here: {error.strerror}"
            _discard(self._draft / unit)
        return brought

    def _not_as_stated(self, unit: str) -> str:
        """Why a version's files are not what its contract states; '' if they are, or it states none."""
        if not self._whole:
            return ""
        return not_as_stated([self._draft / unit, self.folder / unit])

    def _fetch(self, path: str, known: Object, meter: _Meter) -> None:
        draft = self._draft / path
        draft.parent.mkdir(parents=True, exist_ok=True)
        if self._has_content(path):
            self.store.read(path, known, draft, meter.came)
            meter.done()
        else:
            draft.touch()
            os.truncate(draft, known.size)
        with suppress(OverflowError):  # a store may say any time
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
        folders = folders_of(found)
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


def _identities(files: Mapping[str, Object], below: str) -> dict[str, str]:
    return {path.removeprefix(below): known.identity for path, known in files.items()}


def _is_file_of(known: Object, file: Object) -> bool:
    return (known.size, known.modified_ns) == (file.size, file.modified_ns)


def _in_the_way(gone: Collection[str], wanted: Collection[str]) -> list[str]:
    """Files where a folder is to be, and what lies in a folder where a file is to be."""
    folders = folders_of(wanted)
    return [path for path in gone if path in folders or not folders_of([path]).isdisjoint(wanted)]


def _discard(draft: Path) -> None:
    """What came of a version that did not come whole."""
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


def _last_is_contract(path: str) -> tuple[bool, str]:
    return path.rpartition("/")[2] == CONTRACT, path
