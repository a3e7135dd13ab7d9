"""Record of the request that a task works on: what its metrics, span and log line need."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

from triptych.protocol.request_ids import new_request_id

_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class RequestRecord:
    """Facts of one request. The servicer fills them in as it learns them.

    Family, model and version are label values: they are set only after the catalog knew them, so their set is closed.
    """

    __slots__ = ("answers", "family", "id", "model", "parts", "rows", "version")

    def __init__(self, id: str) -> None:
        self.id = id  # empty if the caller sent none and nothing has asked for one
        self.family = self.version = "-"
        self.model = ""
        self.rows = 0
        self.parts: Mapping[str, float] = _NONE  # seconds of each part of the work
        self.answers: Mapping[str, int] = _NONE  # rows by value, where the contract observes one

    def ensure_id(self) -> str:
        """Id of the request, which is made if the caller sent none."""
        if not self.id:
            self.id = new_request_id()
        return self.id

    def identify(self, family: str, model: str, version: str) -> None:
        """Set the labels, which the catalog has confirmed."""
        self.family, self.model, self.version = family, model, version


CURRENT_REQUEST: ContextVar[RequestRecord] = ContextVar("request")


def current_request() -> RequestRecord:
    """Record of the request that this task works on."""
    return CURRENT_REQUEST.get()
