"""The arguments of `Ask`, checked as far as that needs no model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from triptych.contract.specs import RESERVED_PREFIXES, Scalar
from triptych.errors import is_version
from triptych.protocol.infer_request import BACKGROUND
from triptych_client.connection import Metadata, Tls
from triptych_client.errors import InvalidOptions

ALL: Final = "all"  # columns to keep
BAD_ROWS: Final = ("refuse", "keep")
REMOTE_IN_FLIGHT: Final = 8


@dataclass(frozen=True)
class AskOptions:
    """The arguments; `Ask` documents them."""

    model: str
    address: str | None
    repository: str | None
    version: str
    traffic_key: str | None
    background: bool
    parameters: Mapping[str, Scalar]
    columns: Mapping[str, str]
    outputs: Mapping[str, str] | None
    keep: Sequence[str] | None
    ignore_others: bool
    text: Collection[str]
    allow_rounding: bool
    on_bad_rows: str
    records: bool
    pin: bool
    max_rows: int | None
    max_bytes: int
    in_flight: int | None
    timeout_s: float
    retry_s: float
    connect_s: float
    max_answer_bytes: int
    tls: Tls | None
    metadata: Metadata | None

    def __post_init__(self) -> None:
        """Raises `InvalidOptions`."""
        if (self.address is None) == (self.repository is None):
            raise InvalidOptions("want either `address`, of preprocess, or `repository`, a folder of models")
        if self.on_bad_rows not in BAD_ROWS:
            raise InvalidOptions(f"on_bad_rows: want one of {', '.join(BAD_ROWS)}, got {self.on_bad_rows!r}")
        self._check_limits()
        for name in self.parameters:
            if name == "alias" or name.startswith(RESERVED_PREFIXES):
                raise InvalidOptions(f"parameters: '{name}' is reserved; an alias is given as `version`")
        if self.traffic_key is not None and self.version:
            raise InvalidOptions("want either `version` or `traffic_key`, by which each row has its own")
        if self.repository is not None:
            self._check_local()

    def _check_limits(self) -> None:
        for name in ("max_rows", "max_bytes", "in_flight", "max_answer_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidOptions(f"{name}: want at least 1, got {value}")
        for name, least in (("timeout_s", 0.001), ("retry_s", 0), ("connect_s", 0)):
            if not getattr(self, name) >= least:
                raise InvalidOptions(f"{name}: want at least {least}, got {getattr(self, name)}")

    def _check_local(self) -> None:
        if self.version and not is_version(self.version):
            raise InvalidOptions(f"version: a folder has no aliases, want a number, got '{self.version}'")
        if self.traffic_key is not None or self.background:
            raise InvalidOptions("`traffic_key` and `background` are for an `address`, a folder has no traffic")
        if self.tls is not None or self.metadata is not None:
            raise InvalidOptions("`tls` and `metadata` are for an `address`, a folder is not connected to")

    @property
    def is_pinned(self) -> bool:
        """Whether one version answers all rows."""
        return self.pin and self.traffic_key is None

    @property
    def all_parameters(self) -> Mapping[str, Scalar]:
        """The parameters of each request, with our own."""
        return {**self.parameters, BACKGROUND: True} if self.background else self.parameters

    @property
    def keeps_bad_rows(self) -> bool:
        """Whether rows that cannot be answered have an error in place of an answer."""
        return self.on_bad_rows == "keep"

    @property
    def threads(self) -> int:
        """Requests in flight at once."""
        return self.in_flight or (REMOTE_IN_FLIGHT if self.address is not None else len(os.sched_getaffinity(0)))


def version_text(version: int | str | None) -> str:
    """A version or alias as a request names it; '' for none. Raises `InvalidOptions`."""
    if version is None:
        return ""
    if isinstance(version, bool) or not isinstance(version, (int, str)) or not str(version):
        raise InvalidOptions(f"version: want a number, an alias or None, got {version!r}")
    return str(version)


def output_names(outputs: Sequence[str] | Mapping[str, str] | None) -> Mapping[str, str] | None:
    """Columns by output; None for all outputs under their names."""
    if outputs is None or isinstance(outputs, Mapping):
        return outputs
    return {name: name for name in outputs}
