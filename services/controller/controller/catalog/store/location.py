"""Where the controller finds its models: a folder, or the mirror of a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.catalog.seal import refusal
from controller.catalog.sealer import Identify, Sealer
from controller.catalog.store.uri import is_uri
from triptych.contract.verification.tree import File

MAX_NAMED = 100  # objects
AWAY = ""  # key of the fault of the store itself


@dataclass(frozen=True)
class Models:
    """A folder of models, and how it is brought up to date before it is read.

    `refresh` blocks, and returns what is wrong by the key of the object, `AWAY` for the store itself. It raises
    `OSError` when there is nothing to go on with: the store cannot be read, and was not read into `folder` before.
    `identify` is what tells the object of a file, None where files have content. `differs` asks the store now: which
    files of a version are not what `folder` has; '' if none, or if the store does not answer.
    """

    folder: Path
    refresh: Callable[[], Mapping[str, str]] = dict
    identify: Identify | None = None
    differs: Callable[[str, int], str] = lambda model, number: ""


def named(faults: Collection[str]) -> set[str]:
    """For a log: so many sentences, and how many more there are. A bucket may be full of what is no model."""
    if len(faults) <= MAX_NAMED:
        return set(faults)
    return {*sorted(faults)[:MAX_NAMED], f"{len(faults) - MAX_NAMED} more objects of the store are left out"}


class StoreSeals:
    """Whether the objects of a version are what was published: in the store now, and as they were read last.

    A version that could not be loaded is not mended in place: the mirror beside a Triton keeps what it has.
    """

    def __init__(self, models: Models, sealer: Sealer) -> None:
        self._models, self._sealer = models, sealer

    def check(self, model: str, number: int, loaded: bool) -> str:
        """Why the version must not be loaded, '' if it may be. Blocks."""
        what = self._models.differs(model, number)
        return refusal(number, what) if what else self._sealer.check(model, number, loaded)

    def load_failed(self, model: str, number: int) -> None:
        """Changes nothing."""


def models_in(place: str, mirror: Path | None) -> Models:
    """The models of a folder, which are read where they are, or of a URI, which are read from its mirror."""
    if not is_uri(place):
        return Models(Path(place))
    from controller.catalog.store.mirror import Mirror  # obstore, only where there is a store
    from controller.catalog.store.objects import open_store

    folder = mirror or default_folder(place)
    kept = Mirror(open_store(place), folder, whole=False)

    def refresh() -> Mapping[str, str]:
        try:
            kept.refresh()
        except OSError as error:
            if not folder.is_dir() or not any(folder.iterdir()):
                raise
            return {**kept.faults, AWAY: str(error)}
        return kept.faults

    def identify(path: str, file: File) -> str:
        return kept.identity(os.path.relpath(path, folder))

    return Models(folder, refresh, identify, kept.differs)


def default_folder(uri: str) -> Path:
    """One for each URI, in the user's cache: what is there after a restart need not come again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "triptych" / f"models-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
