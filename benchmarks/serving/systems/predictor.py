"""Triton alone: the lower bound, and the predictor of systems without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import Processes, program
from benchmarks.serving.workloads import MODELS, Arrays, ServingWorkload
from local.environments import ROOT, ensure
from local.server_process import ServerProcess


def triton(
    folder: Path, models: Path, load: Sequence[str], environment: str = "predictor", path: str = ""
) -> ServerProcess:
    """A Triton on free ports with these models loaded. `path` is appended to the PYTHONPATH of its Python models."""
    words = [
        *("-m", "predictor", "--model-repository", str(models), "--grpc-port", "{port}"),
        *("--metrics-port", str(free_port()), "--", *(f"--load-model={model}" for model in load)),
    ]
    variables = {"PYTHONPATH": str(ROOT / "services/predictor"), "BENCH_PATH": path}
    return program("predictor", ensure(environment), words, folder, variables)


class Triton(Processes):
    """Triton called with the model's inputs; it returns the model's outputs."""

    name = "triton"
    title = "Triton alone, with prepared tensors: the lower bound"

    def __init__(self, models: Path = MODELS) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        self.run(triton(folder, self._models, sorted({workload.model for workload in workloads})))

    def requests(self, workload: ServingWorkload) -> Sequence[Arrays]:
        return workload.prepared

    def answers(self, workload: ServingWorkload) -> Sequence[Arrays]:
        return workload.predicted
