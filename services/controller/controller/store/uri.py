"""The URI of an object store."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

SCHEMES = ("s3", "gs", "file")
_BUCKET: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")


def is_uri(text: str) -> bool:
    """Whether a text is the URI of a store; any other text is a folder."""
    return "://" in text


def split(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and path without slashes at its ends. Raises `ValueError`."""
    parts = urlsplit(uri)
    path = parts.path.strip("/")
    if parts.scheme not in SCHEMES or bool(parts.netloc) == (parts.scheme == "file") or not (parts.netloc or path):
        raise ValueError(f"want s3://bucket/prefix, gs://bucket/prefix or file:///folder, got '{uri}'")
    if parts.netloc and not _BUCKET.fullmatch(parts.netloc):
        got = parts.netloc.rpartition("@")[2]  # what is before it may be a key
        text = "keys and the address of a store are in variables such as AWS_ENDPOINT_URL"
        raise ValueError(f"want the name of a bucket behind {parts.scheme}://, got '{got}'; {text}")
    if {".", ".."} & set(path.split("/")):
        raise ValueError(f"want no part '.' or '..' behind the bucket, got '{uri}'")
    if parts.query or parts.fragment or "//" in path:
        raise ValueError(f"want nothing but names between single slashes after the bucket, got '{uri}'")
    return parts.scheme, parts.netloc, path
