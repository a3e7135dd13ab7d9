"""One grpc.aio process with all three steps and onnxruntime: no Triton, no further RPC.

Its event loop is uvloop. Pictures are decoded on one thread per core. onnxruntime has one thread, which is fastest for
models this small.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.systems.base import Processes, program
from benchmarks.serving.systems.model_descriptions import model_words
from benchmarks.serving.workloads import MODELS, ServingWorkload

PROGRAM = "benchmarks.serving.programs.grouped"


class Grouped(Processes):
    """All three steps in one Python process."""

    name = "grouped"
    title = "one Python process for all three steps (grpc.aio, onnxruntime)"
    own_model = True

    def __init__(self, models: Path = MODELS) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        words = ["-m", PROGRAM, "--port", "{port}", *model_words(folder, workloads, self._models)]
        self.run(program(self.name, Path(sys.executable), words, folder, {}))
