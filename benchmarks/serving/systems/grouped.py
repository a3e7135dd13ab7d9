"""One grpc.aio process with all three steps and onnxruntime in it: no Triton, no second hop.

One process, as most people start; its event loop is uvloop, pictures go to a thread for each core, and onnxruntime runs
with one thread, which is best for models this small.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.serving.systems.base import STOP_TIMEOUT_S, System, program, wait_ready
from benchmarks.serving.systems.described import write_descriptions
from benchmarks.serving.workloads import MODELS, Workload
from local.part import Part

PROGRAM = "benchmarks.serving.programs.grouped"


class Grouped(System):
    """One process."""

    name = "grouped"
    title = "one Python process for all three steps (grpc.aio, onnxruntime)"
    own_model = True

    def __init__(self, models: Path = MODELS) -> None:
        self._models = models
        self._part: Part | None = None

    @property
    def part(self) -> Part:
        assert self._part is not None
        return self._part

    def start(self, folder: Path, workloads: Sequence[Workload]) -> None:
        configs = write_descriptions(folder / "configs", workloads)
        names = sorted({workload.model for workload in workloads})
        models = [f"{name}={self._models / name / '1/model.onnx'}" for name in names]
        words = ["-m", PROGRAM, "--port", "{port}", "--configs", str(configs), *models]
        self._part = program(self.name, Path(sys.executable), words, folder, {})
        self._part.start()
        try:
            wait_ready([self._part])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        if self._part is not None:
            self._part.stop(STOP_TIMEOUT_S)

    def pids(self) -> Mapping[str, int]:
        return {self.name: self.part.pid}

    @property
    def address(self) -> str:
        return self.part.address
