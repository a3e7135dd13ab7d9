"""Reading of untrusted files: regular files within a folder, up to a size, as UTF-8 text.

A link is followed if it stays within the folder, since a mounted ConfigMap and git-sync consist of such links. Only
regular files are opened: a FIFO would block, and a device may act when it is opened.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 1 << 20
MAX_NAME: Final = 120  # characters of a name in a sentence

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BINARY: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
# The first line of the file that Git LFS leaves in place of a large one; the file has fewer than 1,024 bytes.
LFS_LINE: Final = b"version https://git-lfs.github.com/spec/v1"
LFS_MAX_BYTES: Final = 1023
LFS_POINTER: Final = "is a pointer of Git LFS, without the content; get it by git lfs pull"


class FileError(Exception):
    """A file that cannot be read. The text gives the reason without the name; `line` is the place of the fault."""

    def __init__(self, text: str, line: int = 1) -> None:
        super().__init__(text)
        self.line = line


def read_text(path: Path, within: Path | None = None, most: int = MAX_BYTES) -> str:
    """Text of a regular file below `within`. Raises `FileError`."""
    return decode(read_bytes(path, within, most))


def read_bytes(path: Path, within: Path | None = None, most: int = MAX_BYTES) -> bytes:
    """Content of a regular file of at most `most` bytes below `within` (None: anywhere). Raises `FileError`."""
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            _check_place(handle, within)
            with open(os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
                data = file.read(most + 1)
        finally:
            os.close(handle)
    except OSError as error:
        raise FileError(f"cannot be read: {cause(error)}") from None
    except ValueError as error:  # a NUL in the name
        raise FileError(f"cannot be read: {error}") from None
    if len(data) > most:
        raise FileError(f"larger than {most} bytes")
    return data


def decode(data: bytes) -> str:
    """UTF-8, with or without a byte-order mark. Raises `FileError`, with the line of the first fault."""
    if data.startswith(_UTF16):
        raise FileError("is UTF-16; save it as UTF-8")
    if data.startswith(LFS_LINE):
        raise FileError(LFS_POINTER)
    data = data.removeprefix(_BOM)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        got = f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start}"
        raise FileError(f"{got}; save it as UTF-8", line) from None
    if found := _BINARY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise FileError(f"holds the control character 0x{ord(found[0]):02x}; want text", line)
    return text


def cause(error: OSError) -> str:
    """Reason of an operating system error, in one phrase."""
    return error.strerror or type(error).__name__


def kind_fault(mode: int) -> str:
    """Sentence about an entry that is neither a regular file nor a folder; '' if it is one."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return ""
    return f"is {_kind(mode)}; want regular files"


def resolved(path: str | Path) -> str:
    """Path with links resolved by the kernel. Raises `OSError`.

    `os.path.realpath` cannot follow `/proc/125/root/models`, where KServe puts a model image (kserve#4753).
    """
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def is_within(real: str, folder: str) -> bool:
    """Whether a resolved path is a resolved folder or lies below it."""
    return real == folder or real.startswith(folder.rstrip("/") + "/")


def printable(name: str | Path) -> str:
    """Name for logs and messages: clipped, with unprintable characters and bytes escaped."""
    text = escaped(str(name))
    return text if len(text) <= MAX_NAME else f"{text[: MAX_NAME - 4]} ..."


def printable_path(path: str | Path) -> str:
    """Path for logs and messages, escaped and clipped part by part."""
    return "/".join(printable(part) for part in str(path).split("/"))


def escaped(text: str) -> str:
    """Untrusted text in one line, with unprintable characters escaped."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    """`\\xff` for a byte that is no UTF-8, `\\u202e` for a character that has no shape of its own."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("ascii", "backslashreplace").decode() if code > 0x7F else f"\\x{code:02x}"


def _check_place(handle: int, within: Path | None) -> None:
    """Raises `FileError` for anything but a regular file within the folder."""
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        raise FileError(f"is {_kind(mode)}; want a regular file")
    if within is not None and not is_within(os.readlink(f"/proc/self/fd/{handle}"), resolved(within)):
        raise FileError("is a link out of its folder; want a file within it")


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "no regular file")
