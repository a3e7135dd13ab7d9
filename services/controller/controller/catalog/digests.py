"""The seal of a version: an identity for each of its files, taken when the version is published. Pure.

An identity is `sha256:<hex>` of the content, `etag:<text>` as an object store gives it, or `stat:<size>-<mtime in ns>`.
Identities of two kinds say nothing about each other.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

FileDigests = Mapping[str, str]  # by path within the version's folder, parts joined by '/'

DURABLE = ("sha256", "etag")
MAX_NAMED = 3  # files in one sentence


def combined_digest(files: FileDigests) -> str:
    """One identity for all files, `<kind>:<hex>`, the same whatever their order; '' for no file."""
    if not files:
        return ""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    kinds = sorted({_kind(digest) for digest in files.values()})
    return f"{'+'.join(kinds)}:{hashlib.sha256(os.fsencode(lines)).hexdigest()}"


def are_comparable(one: str, other: str) -> bool:
    """Whether two identities can be compared."""
    return _kind(one) == _kind(other)


def is_durable(digest: str) -> bool:
    """Whether it stays the same for the same content on another volume or after another copy, as a time does not."""
    return _kind(digest) in DURABLE


def difference(published: FileDigests, now: FileDigests) -> str:
    """The files that are not what was published, `model.onnx changed, data is gone`; '' when all are."""
    found = [f"{path} is gone" for path in published if path not in now]
    found += [f"{path} is new" for path in now if path not in published]
    found += [
        f"{path} changed"
        for path, digest in published.items()
        if path in now and are_comparable(digest, now[path]) and digest != now[path]
    ]
    named = [os.fsencode(text).decode(errors="backslashreplace") for text in sorted(found)]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more


def refusal(number: int, what: str) -> str:
    """The sentence about a version whose files are not what was published."""
    return (
        f"version {number} is not what was published: {what}; what is loaded goes on being served; "
        "put the published files back, or publish the new ones as a new version"
    )


def _kind(digest: str) -> str:
    return digest.partition(":")[0]
