"""Triton alone: the floor, and the predictor of those that have none of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import STOP_TIMEOUT_S, System, program, wait_ready
from benchmarks.serving.workloads import MODELS, Arrays, Workload
from local.environments import ROOT, ensure
from local.part import Part


def triton(
    name: str, folder: Path, models: Path, load: Sequence[str], environment: str = "predictor", path: str = ""
) -> Part:
    """A Triton with these models loaded, on ports of its own. `path` comes behind PYTHONPATH of its Python models."""
    words = [
        *("-m", "predictor", "--model-repository", str(models), "--grpc-port", "{port}"),
        *("--metrics-port", str(free_port()), "--", *(f"--load-model={model}" for model in load)),
    ]
    variables = {"PYTHONPATH": str(ROOT / "services/predictor"), "BENCH_PATH": path}
    return program(name, ensure(environment), words, folder, variables)


class Triton(System):
    """Asked with the tensors that the model takes; what comes back is what the model says."""

    name = "triton"
    title = "Triton alone, with prepared tensors: the floor"

    def __init__(self, models: Path = MODELS) -> None:
        self._models = models
        self._part: Part | None = None

    @property
    def part(self) -> Part:
        assert self._part is not None
        return self._part

    def start(self, folder: Path, workloads: Sequence[Workload]) -> None:
        self._part = triton(self.name, folder, self._models, sorted({workload.model for workload in workloads}))
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
        return {"predictor": self.part.pid}

    @property
    def address(self) -> str:
        return self.part.address

    def requests(self, workload: Workload) -> Sequence[Arrays]:
        return workload.prepared

    def answers(self, workload: Workload) -> Sequence[Arrays]:
        return workload.predicted
