"""Files that are whole after a crash: second names, swaps in one step, and what makes them durable."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step where the file system can, else in two."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        names = os.fsencode(one), os.fsencode(other)
        if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
        if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), str(other))
    aside = one.with_name(f"{one.name}.before")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def place(file: Path, into: Path) -> None:
    """Give a file a second name, or a copy where the file system has no links."""
    try:
        os.link(file, into)
    except OSError:
        shutil.copy2(file, into)


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there whole or not at all, durable."""
    draft = file.with_name(f".{file.name}")
    draft.write_text(text, encoding="utf-8")
    sync(draft)
    draft.rename(file)
    sync(file.parent)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # of a file system whose folders cannot be synced
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make a folder and its files durable."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)
