"""The source of models: a folder, or the mirror of an object store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.catalog.digests import refusal
from controller.catalog.integrity import DigestFunction, IntegrityChecker
from controller.store.options import StoreOptions
from controller.store.uri import is_uri
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES
from triptych.contract.verification.tree import File

STORE = ""  # key of the fault of the store itself


@dataclass(frozen=True)
class ModelSource:
    """A folder of models, and how to refresh it.

    `refresh` blocks and returns the faults by the key of the object, `STORE` for the store itself. It raises `OSError`
    if the store cannot be read and `folder` holds nothing from before. `digest_of`: the digest of a file by its object,
    None if the files have content. `changed_files` lists the store and names the files of a version that differ from
    `folder`; '' if none differ or the store does not answer.
    """

    folder: Path
    refresh: Callable[[], Mapping[str, str]] = dict
    digest_of: DigestFunction | None = None
    changed_files: Callable[[str, int], str] = lambda model, number: ""


class StoreIntegrity:
    """Compares the objects of a version with the published ones: in the store now, and as last mirrored.

    The files of a version whose load failed may not be replaced here: the mirror beside a predictor keeps its files.
    """

    def __init__(self, models: ModelSource, integrity: IntegrityChecker) -> None:
        self._models, self._integrity = models, integrity

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded; '' if it may be. Blocks."""
        what = self._models.changed_files(model, number)
        return refusal(number, what) if what else self._integrity.check(model, number, loaded)

    def load_failed(self, model: str, number: int) -> None:
        """Do nothing: published objects stay."""


def model_source(
    location: str,
    mirror_folder: Path | None,
    options: StoreOptions | None = None,
    max_step_file_bytes: int = MAX_STEP_FILE_BYTES,
) -> ModelSource:
    """The models of a folder, read in place, or of a URI, read from its mirror."""
    if not is_uri(location):
        return ModelSource(Path(location))
    from controller.store.buckets import open_store  # obstore, only where there is a store
    from controller.store.mirror import Mirror

    folder = mirror_folder or default_folder(location)
    mirrored = Mirror(open_store(location, options), folder, whole=False, max_step_file_bytes=max_step_file_bytes)

    def refresh() -> Mapping[str, str]:
        try:
            mirrored.refresh()
        except OSError as error:
            if not folder.is_dir() or not any(folder.iterdir()):
                raise
            return {**mirrored.faults, STORE: str(error)}
        return mirrored.faults

    def digest_of(path: str, file: File) -> str:
        return mirrored.digest(os.path.relpath(path, folder))

    return ModelSource(folder, refresh, digest_of, mirrored.changed_files)


def default_folder(uri: str) -> Path:
    """The mirror folder of a URI in the user's cache: after a restart its files need no download."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "triptych" / f"models-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
