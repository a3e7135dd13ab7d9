"""Ray Serve: a deployment for each step, called through handles, behind Ray's own gRPC proxy.

As Ray's documentation has it for model composition and for gRPC services; the model's deployment groups requests with
`serve.batch`, and deployments take 200 requests at once instead of 5 so that none of them waits for a setting. BentoML,
the other candidate, serves no gRPC for services of its present form (its issues 4634 and 5607), and its HTTP is not
the protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import STOP_TIMEOUT_S, System, program, wait_ready
from benchmarks.serving.systems.described import write_descriptions
from benchmarks.serving.workloads import Workload
from local.environments import ROOT, ensure
from local.part import Part

PROGRAM = "benchmarks.serving.programs.ray_serve"
PATH = ROOT / "benchmarks/serving/programs/oip"

# From Ray's page on performance: one switch for gRPC between deployments instead of actor calls, no threads of their
# own for user code and router, and log lines in blocks.
FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}


class RayServe(System):
    """A driver, Ray's own processes, a proxy and three replicas."""

    name = "ray-serve"
    title = "Ray Serve, a deployment for each of the three steps, onnxruntime, gRPC proxy"
    restless = True
    own_model = True

    def __init__(self, models: Path) -> None:
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
        words = ["-m", PROGRAM, "--port", "{port}", "--http-port", str(free_port()), "--configs", str(configs), *models]
        variables = {"PYTHONPATH": f"{ROOT}:{PATH}", **FAST}
        self._part = program(self.name, ensure("bench-ray"), words, folder, variables)
        self._part.start()
        try:
            wait_ready([self._part])
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Its replicas have sessions of their own: what outlives the driver is ended by its id."""
        if self._part is None:
            return
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._part.pid).children(recursive=True)
        self._part.stop(STOP_TIMEOUT_S)
        for child in psutil.wait_procs(children, timeout=3)[1]:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def pids(self) -> Mapping[str, int]:
        return {"ray": self.part.pid}

    @property
    def address(self) -> str:
        return self.part.address
