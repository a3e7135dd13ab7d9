"""The configuration of a store: variables of the environment and of a Secret, authorities, and a proxy.

Keys and authorities are renewed while the process runs, so their files are read before each use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from triptych.runtime.pem import certificates

MAX_OBJECTS = 300_000  # two listings of so many take 260 MiB (2026-11-30), half of what the chart gives
TRIES = 3  # kubelet replaces the folder of a Secret while it is read


@dataclass(frozen=True)
class StoreConfiguration:
    """The configuration of one connection. An equal one needs no new connection.

    `secret`: variables of the Secret; those of the environment win, as `env` of a container wins over `envFrom`.
    `authorities`: PEM, trusted beside the public ones. `proxy`: '' is none, whatever the environment says.
    """

    secret: Mapping[str, str] = field(default_factory=dict, repr=False)
    authorities: bytes = field(default=b"", repr=False)
    proxy: str = field(default="", repr=False)

    def variable(self, *names: str) -> str:
        """The first of these variables that is not empty; '' if none is."""
        return next((value for name in names if (value := os.environ.get(name) or self.secret.get(name))), "")

    def of_secret(self, names: Iterable[str]) -> dict[str, str]:
        """The variables of the Secret that are not in the environment, which obstore reads by itself."""
        return {name.lower(): self.secret[name] for name in names if self.secret.get(name) and not os.environ.get(name)}

    def is_on(self, name: str) -> bool:
        """Whether a boolean variable is true, in the words of obstore."""
        return self.variable(name).lower() in ("true", "1", "yes", "on", "y")

    @property
    def printable_proxy(self) -> str:
        """The proxy without its user and password."""
        return re.sub(r"//.*@", "//", self.proxy)


@dataclass(frozen=True)
class StoreOptions:
    """Places of the configuration, and the limit of a listing.

    `secret` is a folder with a file for each variable, `authorities` a PEM file.
    """

    secret: Path | None = None
    authorities: Path | None = None
    proxy: str = ""
    max_objects: int = MAX_OBJECTS  # of a listing

    def read(self) -> StoreConfiguration:
        """Read the files. Raises `OSError`."""
        variables = _read_secret(self.secret) if self.secret is not None else {}
        return StoreConfiguration(variables, _read_authorities(self.authorities), self.proxy)


def proxy_url(text: str) -> str:
    """The URL of a proxy; '' is none. Raises `ValueError`."""
    parts = urlsplit(text)
    if text and (parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query):
        raise ValueError("want http://host:port")  # not what came: it may have a password
    return text


def _read_secret(folder: Path) -> dict[str, str]:
    """Variables by name. Kubernetes replaces all files at once by moving the link `..data`; so all are read behind it.

    Raises `OSError`.
    """
    for left in reversed(range(TRIES)):
        data = folder / "..data"
        try:
            files = (data.resolve() if data.exists() else folder).iterdir()
            return {file.name: _text(file) for file in files if not file.name.startswith(".")}
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError("unreachable")


def _read_authorities(file: Path | None) -> bytes:
    """The certificates of a file. Raises `OSError`."""
    try:
        return certificates(file.read_bytes()) if file else b""
    except ValueError as error:
        raise OSError(f"{file}: authorities: {error}") from None


def _text(file: Path) -> str:
    """The content without the line break that ends many files. Raises `OSError`."""
    try:
        return file.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise OSError(f"{file}: want UTF-8") from None
