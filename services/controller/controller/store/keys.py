"""Keys of a bucket as paths of files, and the reasons why other keys cannot be files. Pure.

A bucket may hold any key, a folder may not. An object that cannot be a file is named and skipped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from controller.store.listing import UNKNOWN
from controller.store.objects import MAX_FOLDER_OBJECTS, Object, folder_of

MAX_PART_BYTES = 255  # of a name in a folder of Linux
MAX_PATH_BYTES = 3000  # below the mirror's folder; a whole path may have 4096


@dataclass(frozen=True)
class ClassifiedKeys:
    """Objects that are files of models by path, and the faults of others by key."""

    files: dict[str, Object] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def classify(listed: Mapping[str, Object]) -> ClassifiedKeys:
    """Sort objects into files and faults. Folder markers (empty, key ends with '/'), files beside models: neither."""
    found = ClassifiedKeys()
    good: dict[str, Object] = {}
    for key, known in listed.items():
        if known.size == 0 and key.endswith("/"):
            continue
        if fault := key_fault(key, known):
            found.faults[key] = fault
        else:
            good[key] = known
    for folder, count in Counter(map(folder_of, listed)).items():
        if count > MAX_FOLDER_OBJECTS:
            found.faults[folder or "."] = f"has more than {MAX_FOLDER_OBJECTS} objects; those behind are not read"
    folders = folders_of(good)
    for path, known in good.items():
        if path in folders:
            if known.size:
                found.faults[path] = "is an object and a folder at once, want one of them; the folder is taken"
        elif "/" in path and not _is_marker(path, known):
            found.files[path] = known
    return found


def key_fault(key: str, known: Object) -> str:
    """Why a key cannot be a file; '' if it can."""
    parts = key.split("/")
    if not key.isprintable() or UNKNOWN in key:
        return "has a character that cannot be shown, want printable UTF-8"
    if "" in parts:
        return "has an empty part, want names between single slashes"
    if "." in parts or ".." in parts:
        return "has a part '.' or '..', want names"
    if "\\" in key:
        return "has a backslash, want parts between slashes; was it uploaded from Windows?"
    if (longest := max(len(part.encode()) for part in parts)) > MAX_PART_BYTES:
        return f"has a part of {longest} bytes, want at most {MAX_PART_BYTES}"
    if len(key.encode()) > MAX_PATH_BYTES:
        return f"has {len(key.encode())} bytes, want at most {MAX_PATH_BYTES}"
    return "" if known.size >= 0 else "has no size in the listing, want a number of bytes"


def folders_of(paths: Iterable[str]) -> set[str]:
    """All folders above these files, with '.'."""
    folders = {"."}
    for path in paths:
        while (path := path.rpartition("/")[0]) and path not in folders:
            folders.add(path)
    return folders


def model_of(path: str) -> str:
    """The folder of the model."""
    return path.partition("/")[0]


def version_of(path: str) -> str:
    """The folder of the version; '' for a file of the model itself."""
    parts = path.split("/")
    return "/".join(parts[:2]) if len(parts) > 2 else ""


def unit_of(path: str) -> str:
    """The unit that is downloaded or fails as a whole: a version, or a file of the model itself."""
    return version_of(path) or path


def _is_marker(path: str, known: Object) -> bool:
    """Whether an empty object is the marker of a version's folder: GCS lists `m/2/` without its slash here."""
    return not known.size and path.count("/") == 1 and path.rpartition("/")[2].isdecimal()
