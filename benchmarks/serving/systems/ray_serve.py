"""Ray Serve: a deployment for each step, called through handles, behind Ray's gRPC proxy.

It is configured by Ray's documentation of model composition and gRPC services. The model's deployment batches requests
with `serve.batch`. Deployments take 200 requests at once instead of 5, so that this limit is never reached. BentoML,
the other candidate, serves no gRPC for its current kind of service (its issues 4634 and 5607), and its HTTP API is not
that of the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import Processes, program
from benchmarks.serving.systems.model_descriptions import model_words
from benchmarks.serving.workloads import ServingWorkload
from local.environments import ROOT, ensure
from local.errors import LocalError

PROGRAM = "benchmarks.serving.programs.ray_serve"
PATH = ROOT / "benchmarks/serving/programs/oip"

# From Ray's page on performance: gRPC between deployments instead of actor calls, no separate threads for user code and
# router, and buffered log lines.
FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"}


class RayServe(Processes):
    """Ray Serve: a driver, Ray's processes, a proxy and three replicas."""

    name = "ray-serve"
    title = "Ray Serve, a deployment for each of the three steps, onnxruntime, gRPC proxy"
    restless = True
    own_model = True

    def __init__(self, models: Path) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        ports = ["--port", "{port}", "--http-port", str(free_port())]
        words = ["-m", PROGRAM, *ports, *model_words(folder, workloads, self._models)]
        variables = {"PYTHONPATH": f"{ROOT}:{PATH}", **FAST}
        self.run(program("ray", ensure("bench-ray"), words, folder, variables))

    def stop(self) -> None:
        """Stop the driver, and kill the replicas that survive it in their own sessions."""
        children: list[psutil.Process] = []
        for part in self.parts:
            with suppress(psutil.NoSuchProcess, LocalError):  # the driver has ended, or was never started
                children += psutil.Process(part.pid).children(recursive=True)
        super().stop()
        for child in psutil.wait_procs(children, timeout=3)[1]:
            with suppress(psutil.NoSuchProcess):
                child.kill()
