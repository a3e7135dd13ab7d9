"""The interface of a home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from triptych.contract import Scalar
from triptych.datatypes import Array
from triptych.protocol.metadata import ModelInfo


@dataclass(frozen=True)
class ModelRequest:
    """Rows for a version of a model: '' for the version that the traffic chooses. Without `outputs` all are wanted."""

    id: str
    model: str
    version: str
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Scalar]
    outputs: Sequence[str] = ()


@dataclass(frozen=True)
class ModelAnswer:
    """Outputs by name, and the model and version that made them."""

    model: str
    version: str
    outputs: Mapping[str, Array]


class Home(Protocol):
    """Describes and asks models. Any thread may use it."""

    def describe(self, model: str, version: str) -> ModelInfo:
        """Inputs, outputs and limits of a version; '' for the one that most requests get. Raises `RequestFailed`."""

    def choose_versions(self, model: str, route: str | None, keys: Sequence[str]) -> Sequence[str]:
        """The version that a request with each traffic key gets. Raises `RequestFailed`."""

    def ask(self, request: ModelRequest) -> ModelAnswer:
        """The answer to a request. Raises `RequestFailed`."""

    def close(self) -> None:
        """Releases connections and sessions."""
