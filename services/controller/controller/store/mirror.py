"""A folder in sync with an object store, in which no reader ever sees half of a version.

Changed files are downloaded into a hidden folder beside it and renamed into place once all of them are there: new
folders as a whole, single files with the contract last. If an object cannot be read, its version stays as it was; the
other versions and models are updated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from controller.catalog.digests import difference
from controller.store.download_progress import DownloadMeter, OnProgress
from controller.store.failures import FailedDownloads
from controller.store.keys import classify, folders_of, model_of, unit_of, version_of
from controller.store.objects import Object, ObjectChanged, Store, StoreError
from controller.store.published_objects import PublishedObjects, digest_mismatch
from triptych.contract.reading.files import printable_path
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES, SUFFIXES
from triptych.contract.verification.tree import CONTRACT, is_passed_over

WITH_CONTENT = (CONTRACT, "config.pbtxt")  # files that the controller reads for every version
DOWNLOADS = 8  # at once: small files mostly wait
LISTINGS = 3  # of one refresh, while the store is written to
# Errors of one file. On a full disk a smaller one may fit, and what is deleted in the store must go.
FILE_ERRORS = frozenset(
    {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ENOTDIR, errno.EISDIR}
    | {errno.EFBIG, errno.ENOSPC, errno.EDQUOT}
)


class FolderError(OSError):
    """The folder cannot be a mirror: `filename` names it, `strerror` has the reason and the remedy."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(errno.EINVAL, why, str(folder))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True)
class MirrorChange:
    """Numbers of files that one refresh downloaded and removed."""

    downloaded: int = 0
    removed: int = 0

    def __bool__(self) -> bool:
        return bool(self.downloaded or self.removed)


@dataclass
class _ModelDownload:
    """One model in the draft folder: complete files, changed objects and failures by unit."""

    files: dict[str, Object] = field(default_factory=dict)
    changed: dict[str, str] = field(default_factory=dict)  # unit: key of the object that differs from its listing
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)  # unit: key and reason


class Mirror:
    """Keeps `folder` in sync with a store. It blocks; only one thread at a time may use it.

    `whole`: every file with its content, for a predictor. Otherwise only config.pbtxt, contract.yaml and files that
    steps may read, of at most `max_step_file_bytes`, have content; any other object is a sparse file of its size.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        *,
        whole: bool,
        max_step_file_bytes: int = MAX_STEP_FILE_BYTES,
        on_progress: OnProgress = lambda progress: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.folder, self._whole, self._on_progress = store, folder, whole, on_progress
        self._max_step_file_bytes = max_step_file_bytes
        self.faults: Mapping[str, str] = {}  # one sentence for each skipped object, by key
        self._side = folder.with_name(
            f".{folder.name}.mirror"
        )  # beside the folder: Triton takes any folder within for a model
        self._draft = self._side / "draft"
        self._present: dict[str, Object] = {}
        self._published = PublishedObjects(self._side / "published.json") if whole else None
        self._failed = FailedDownloads(clock)
        self._listed: dict[str, Object] | None = None  # the listing that the folder is in sync with
        self._lock = -1

    def refresh(self) -> MirrorChange:
        """Sync the folder, and set `faults` to the skipped objects. Raises `StoreError` or `OSError`.

        An empty store is a fault: it does not mean that no models are wanted.
        """
        total = MirrorChange()
        for last in (False,) * (LISTINGS - 1) + (True,):
            listed = self.store.list()
            if listed == self._listed and not self._failed:
                break
            found = classify(listed)
            files = found.files
            if self._lock < 0:
                self._open()
                self._recover(files)
            if self._present and not files:
                why = f"{self.store.endpoint}: nothing is there any more; {self.folder} stays as it is"
                raise StoreError(self.store.uri, f"{why}, delete it by hand if that is meant")
            change, changed, recorded_digests = self._sync(files, last=last)
            total = MirrorChange(total.downloaded + change.downloaded, total.removed + change.removed)
            faults = found.faults | recorded_digests | self._failed.by_key
            self.faults = {key: self._sentence(key, why) for key, why in faults.items()}
            if not changed:
                self._listed = listed
                break
        return total

    def digest(self, path: str) -> str:
        """The digest of an object as it was last listed; '' without one."""
        known = self._present.get(path)
        return known.digest if known else ""

    def changed_files(self, model: str, number: int) -> str:
        """Files of a version that differ from the folder, by a listing of its own. Any thread may call it.

        '' if none differs, and if the store does not answer: an unavailable store removes no version.
        """
        below = f"{model}/{number}/"
        try:
            found = classify(self.store.list(below)).files
        except StoreError:
            return ""
        here = {path: known for path, known in list(self._present.items()) if path.startswith(below)}
        return difference(_file_digests(here, below), _file_digests(found, below))

    def close(self) -> None:
        """Release the lock, so that another process can use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _sentence(self, key: str, why: str) -> str:
        return f"{self.store.uri}/{printable_path(key)}: {why}"

    def _open(self) -> None:
        """Create the folder and lock it for this mirror. Raises `OSError`."""
        folder, side = self.folder, self._side
        want = f"{self.store.uri.rstrip('/')} {'whole' if self._whole else 'contracts'}"
        folder.mkdir(
            mode=0o777 if self._whole else 0o700, parents=True, exist_ok=True
        )  # the mirror of the controller is private
        mark = side / "of"
        if any(folder.iterdir()) and (not mark.exists() or mark.read_text() != want):
            is_now = f"is a mirror of {mark.read_text()}" if mark.exists() else "has files of another owner"
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

    def _recover(self, found: Mapping[str, Object]) -> None:
        """Recover the state of the folder: a file with the size and time of an object is that object."""
        for file in (path for path in self.folder.rglob("*") if path.is_file()):
            path, stat = file.relative_to(self.folder).as_posix(), file.stat()
            now = Object(stat.st_size, stat.st_mtime_ns, "")
            if not stat.st_blocks and self._has_content(path, now):
                continue  # a sparse file, from before the limit was raised
            recorded_digests = self._published.get(path) if self._published else None
            known = next(
                (each for each in (recorded_digests, found.get(path)) if each and _is_file_of(each, now)), None
            )
            self._present[path] = known or now

    def _sync(self, found: Mapping[str, Object], *, last: bool) -> tuple[MirrorChange, set[str], dict[str, str]]:
        """Apply a listing. Returns the change, objects that changed meanwhile, and refused replacements."""
        wanted = {path: known for path, known in found.items() if not self._is_current(path, known)}
        recorded_digests = self._published.refused_replacements(wanted, found) if self._published else {}
        wanted = self._failed.due({path: known for path, known in wanted.items() if path not in recorded_digests})
        gone = {path for path in self._present if path not in found}
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir()
        try:
            removed = self._remove_gone(_in_the_way(gone, wanted), found)
            changed = self._download_all(wanted, last=last)
            removed += self._remove_gone([path for path in gone if path in self._present], found)
        finally:
            shutil.rmtree(self._draft, ignore_errors=True)
            if self._published:
                self._published.record(self._present, found)
        downloaded = sum(self._present.get(path) == known for path, known in wanted.items())
        return MirrorChange(downloaded, removed), changed, recorded_digests

    def _is_current(self, path: str, known: Object) -> bool:
        """Whether the folder has the object; the same content uploaded again is not downloaded again."""
        present = self._present.get(path)
        return present is not None and present.same(known) and (bool(present.tag) or present == known)

    def _download_all(self, wanted: Mapping[str, Object], *, last: bool) -> set[str]:
        """Download model by model. Returns objects that changed meanwhile, a fault if this is the last listing."""
        models: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        for path, known in wanted.items():
            models[model_of(path)][path] = known
        meter = DownloadMeter(wanted, self._has_content, self._on_progress)
        changed = set[str]()
        with ThreadPoolExecutor(DOWNLOADS, "download") as pool:
            left = {pool.submit(self._download, files, meter): model for model, files in models.items()}
            try:
                for draft in as_completed(list(left)):
                    changed |= self._install(draft, left.pop(draft), wanted, last=last)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                meter.stop()
                for draft, model in left.items():  # complete downloads are used
                    if draft.done() and not draft.cancelled() and draft.exception() is None:
                        self._install(draft, model, wanted, last=last)
                raise
        return changed

    def _install(
        self, draft: Future[_ModelDownload], model: str, wanted: Mapping[str, Object], *, last: bool
    ) -> set[str]:
        """Move one model into place. Returns changed objects. Raises `StoreError` if the store is unavailable."""
        downloaded = draft.result()
        if downloaded.files:
            self._move_into_place(model, downloaded.files)
            self._present.update(downloaded.files)
        for path in downloaded.files:
            self._failed.forget(path)
        for unit, (key, why) in downloaded.failed.items():
            self._failed.fail(unit, key, why, wanted)
        if last:
            for unit, key in downloaded.changed.items():
                self._failed.fail(unit, key, "changes while it is read, or is not what the listing says", wanted)
            return set()
        return set(downloaded.changed.values())

    def _has_content(self, path: str, known: Object) -> bool:
        may_be_read = path.endswith(SUFFIXES) and known.size <= self._max_step_file_bytes
        return self._whole or path.rpartition("/")[2] in WITH_CONTENT or may_be_read

    def _download(self, files: Mapping[str, Object], meter: DownloadMeter) -> _ModelDownload:
        """Download one model into the draft, version by version. Raises `StoreError` if the store is unavailable."""
        units: defaultdict[str, dict[str, Object]] = defaultdict(dict)
        for path, known in files.items():
            units[unit_of(path)][path] = known
        downloaded = _ModelDownload()
        for unit, parts in units.items():
            key = ""
            try:
                for key in parts:
                    self._fetch(key, parts[key], meter)
                if why := self._digest_mismatch(unit):
                    downloaded.failed[unit] = f"{unit}/{CONTRACT}", why
                else:
                    downloaded.files.update(parts)
                    continue
            except ObjectChanged:
                downloaded.changed[unit] = key
            except StoreError as error:
                if error.unavailable and not self.store.answers():
                    raise
                downloaded.failed[unit] = key, f"cannot be read: {error.strerror}"
            except OSError as error:
                if error.errno not in FILE_ERRORS:
                    raise
                downloaded.failed[unit] = key, f"cannot be a file here: {error.strerror}"
            _discard(self._draft / unit)
        return downloaded

    def _digest_mismatch(self, unit: str) -> str:
        """The first file that differs from the `files` of the contract; '' if none does."""
        if not self._whole:
            return ""
        return digest_mismatch([self._draft / unit, self.folder / unit])

    def _fetch(self, path: str, known: Object, meter: DownloadMeter) -> None:
        draft = self._draft / path
        draft.parent.mkdir(parents=True, exist_ok=True)
        if self._has_content(path, known):
            self.store.read(path, known, draft, meter.received)
            meter.done()
        else:
            draft.touch()
            os.truncate(draft, known.size)
        with suppress(OverflowError):  # a store may report any time
            os.utime(draft, ns=(known.modified_ns, known.modified_ns))

    def _move_into_place(self, model: str, paths: Iterable[str]) -> None:
        """Rename new folders, then files. The contract is last, for it marks a complete version."""
        left = sorted(paths, key=_last_is_contract)
        for folder in dict.fromkeys([model, *(version_of(path) for path in left)]):
            if folder and not (self.folder / folder).exists():
                os.rename(self._draft / folder, self.folder / folder)
                left = [path for path in left if not path.startswith(f"{folder}/")]
        for path in left:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(self._draft / path, self.folder / path)

    def _remove_gone(self, gone: Collection[str], found: Mapping[str, Object]) -> int:
        """Remove empty folders as a whole, of others the contract first: the reverse order of publishing."""
        folders = folders_of(found)
        for path in sorted(gone, key=_last_is_contract, reverse=True):
            whole = next((part for part in (model_of(path), version_of(path)) if part and part not in folders), "")
            if whole and (self.folder / whole).exists():
                os.rename(self.folder / whole, self._draft / f"gone-{whole.replace('/', '-')}")
            elif not whole:
                (self.folder / path).unlink(missing_ok=True)
                self._prune((self.folder / path).parent, folders)
            del self._present[path]
        return len(gone)

    def _prune(self, folder: Path, folders: Collection[str]) -> None:
        with suppress(OSError):  # there is a file that is not of the store
            while folder.relative_to(self.folder).as_posix() not in folders:
                folder.rmdir()
                folder = folder.parent


def _file_digests(files: Mapping[str, Object], below: str) -> dict[str, str]:
    """Digests by the path within the version, of the files that count for it, as in a folder."""
    found = {path.removeprefix(below): known.digest for path, known in files.items()}
    return {path: digest for path, digest in found.items() if not is_passed_over(path)}


def _is_file_of(known: Object, file: Object) -> bool:
    return (known.size, known.modified_ns) == (file.size, file.modified_ns)


def _in_the_way(gone: Collection[str], wanted: Collection[str]) -> list[str]:
    """Removed files where a new folder is needed, and removed files in a folder where a new file is needed."""
    folders = folders_of(wanted)
    return [path for path in gone if path in folders or not folders_of([path]).isdisjoint(wanted)]


def _discard(draft: Path) -> None:
    """Delete the draft of a unit that is not complete."""
    if draft.is_dir():
        shutil.rmtree(draft)
    else:
        draft.unlink(missing_ok=True)


def _last_is_contract(path: str) -> tuple[bool, str]:
    return path.rpartition("/")[2] == CONTRACT, path
