"""Digests of the files of a version, recorded when the version is published: a published version is immutable. Pure.

A digest is `sha256:<hex>` of the content, `etag:<text>` of an object store, or `stat:<size>-<mtime in ns>`. Digests of
two kinds cannot be compared.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

FileDigests = Mapping[str, str]  # by path within the version's folder, parts joined by '/'

DURABLE = ("sha256", "etag")
MAX_NAMED = 3  # files named in one sentence
DIFFERS = "differs from what was published, ignored: publish a new version"  # an edited contract, configuration, file


def combined_digest(files: FileDigests) -> str:
    """One digest over all files, `<kind>:<hex>`, independent of their order; '' for no file."""
    if not files:
        return ""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(files.items()))
    kinds = sorted({_kind(digest) for digest in files.values()})
    return f"{'+'.join(kinds)}:{hashlib.sha256(os.fsencode(lines)).hexdigest()}"


def are_comparable(one: str, other: str) -> bool:
    """Whether two digests are of one kind."""
    return _kind(one) == _kind(other)


def is_durable(digest: str) -> bool:
    """Whether the digest depends on the content alone, so that a copy on another volume has the same one."""
    return _kind(digest) in DURABLE


def difference(published: FileDigests, now: FileDigests) -> str:
    """Files that differ from the published ones, `model.onnx changed, data is gone`; '' if none differs."""
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
    """The sentence about a version whose files differ from the published ones."""
    return f"version {number} {DIFFERS}, or put the published files back ({what}; what is loaded stays served)"


def _kind(digest: str) -> str:
    return digest.partition(":")[0]
