"""Where the controller finds its models: a folder, or the mirror of a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.catalog.digests import refusal
from controller.catalog.integrity import DigestFunction, IntegrityChecker
from controller.store.uri import is_uri
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
    """Whether the objects of a version are what was published: in the store now, and as they were read last.

    A version that could not be loaded is not mended in place: the mirror beside a Triton keeps what it has.
    """

    def __init__(self, models: ModelSource, integrity: IntegrityChecker) -> None:
        self._models, self._integrity = models, integrity

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded, '' if it may be. Blocks."""
        what = self._models.changed_files(model, number)
        return refusal(number, what) if what else self._integrity.check(model, number, loaded)

    def load_failed(self, model: str, number: int) -> None:
        """Changes nothing."""


def model_source(location: str, mirror_folder: Path | None) -> ModelSource:
    """The models of a folder, which are read where they are, or of a URI, which are read from its mirror."""
    if not is_uri(location):
        return ModelSource(Path(location))
    from controller.store.mirror import Mirror  # obstore, only where there is a store
    from controller.store.objects import open_store

    folder = mirror_folder or default_folder(location)
    mirrored = Mirror(open_store(location), folder, whole=False)

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
    """One for each URI, in the user's cache: what is there after a restart need not come again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "triptych" / f"models-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
