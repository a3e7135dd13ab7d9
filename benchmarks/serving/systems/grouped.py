"""One grpc.aio process with all three steps and onnxruntime in it: no Triton, no second hop.

One process, as most people start; its event loop is uvloop, pictures go to a thread for each core, and onnxruntime runs
with one thread, which is best for models this small.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.systems.base import Processes, program
from benchmarks.serving.systems.model_descriptions import model_words
from benchmarks.serving.workloads import MODELS, Workload

PROGRAM = "benchmarks.serving.programs.grouped"


class Grouped(Processes):
    """One process."""

    name = "grouped"
    title = "one Python process for all three steps (grpc.aio, onnxruntime)"
    own_model = True

    def __init__(self, models: Path = MODELS) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[Workload]) -> None:
        words = ["-m", PROGRAM, "--port", "{port}", *model_words(folder, workloads, self._models)]
        self.run(program(self.name, Path(sys.executable), words, folder, {}))
