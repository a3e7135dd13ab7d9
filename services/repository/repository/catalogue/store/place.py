"""Where the repository finds its models: a folder, or the mirror of a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from repository.catalogue.store.uri import is_uri


def models_in(place: str, mirror: Path | None) -> tuple[Path, Callable[[], str] | None]:
    """The folder to be read for a folder or a URI, and what brings it up to date (None: nothing has to).

    That blocks, and returns what is wrong, '' if nothing is. It raises `OSError` when there is nothing to go on
    with: the store cannot be read, and was not read into that folder before.
    """
    if not is_uri(place):
        return Path(place), None
    from repository.catalogue.store.mirror import Mirror  # obstore, only where there is a store
    from repository.catalogue.store.objects import open_store

    folder = mirror or default_folder(place)
    kept = Mirror(open_store(place), folder, whole=False)

    def refresh() -> str:
        try:
            kept.refresh()
        except OSError as error:
            if not folder.is_dir() or not any(folder.iterdir()):
                raise
            return str(error)
        return ""

    return folder, refresh


def default_folder(uri: str) -> Path:
    """One for each URI, in the user's cache: what is there after a restart need not come again."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "triptych" / f"models-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
