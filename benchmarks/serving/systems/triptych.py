"""Triptych: preprocess, Triton, postprocess and controller as processes, as `make run` starts them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.serving.systems.base import System
from benchmarks.serving.workloads import MODELS, ServingWorkload
from local.endpoints import free_endpoints
from local.environments import ensure
from local.errors import LocalError
from local.stack import LocalStack

GROUPED = {"PREPROCESS_POSTPROCESS": "in-process"}


class Triptych(System):
    """Triptych with default settings; variables of the environment (PREPROCESS_..., POSTPROCESS_...) apply."""

    name = "triptych"
    title = "Triptych: preprocess, Triton, postprocess, controller"
    settings: ClassVar[Mapping[str, str]] = {}  # difference to the default settings

    def __init__(self, models: Path = MODELS, variables: Mapping[str, str] | None = None) -> None:
        self._models, self._variables = models, {**self.settings, **(variables or {})}
        self._stack: LocalStack | None = None

    @property
    def stack(self) -> LocalStack:
        assert self._stack is not None
        return self._stack

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        documents = folder / "documents"
        documents.mkdir()
        self._stack = LocalStack(
            free_endpoints(),
            folder,
            ensure("predictor"),
            model_repository=self._models,
            served_models=documents,
            variables=self._variables,
        )
        self._stack.start()

    def stop(self) -> None:
        if self._stack is not None:
            self._stack.stop()

    def pids(self) -> Mapping[str, int]:
        return self.stack.pids()

    @property
    def address(self) -> str:
        return self.stack.address("preprocess")

    @property
    def predictor_address(self) -> str:
        return self.stack.address("predictor")


class TriptychGrouped(Triptych):
    """Triptych as in mode Grouped: postprocess runs in preprocess's process."""

    name = "triptych-grouped"
    title = "Triptych, mode Grouped: postprocess's work within preprocess"
    settings = GROUPED

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        super().start(folder, workloads)
        if "postprocess" in self.pids():  # else another system would be measured under this name
            self.stop()
            raise LocalError(f"{self.name}: want a stack without a process postprocess, got {sorted(self.pids())}")
