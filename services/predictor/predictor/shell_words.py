"""Paths for Triton's Python backend, which starts the process of each model by a shell, without quotes."""

from __future__ import annotations

import hashlib
import shlex
from contextlib import suppress
from pathlib import Path

from predictor.errors import CannotStart


def is_word(path: Path) -> bool:
    """Whether a shell reads the path as one word, and as it is."""
    return shlex.quote(str(path)) == str(path)


def as_word(folder: Path, cache: Path) -> Path:
    """The folder, or a link to it in the cache if a shell would split its path. Raises `CannotStart`."""
    if not is_word(cache):
        raise CannotStart(f"the cache folder {cache}: want letters, digits and _@%+=:,./- only; set XDG_CACHE_HOME")
    if is_word(folder):
        return folder
    link = cache / "repositories" / hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # it leads there already
        link.symlink_to(folder)
    return link
