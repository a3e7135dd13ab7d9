"""A real Triton with some of the tiny models, for tests of Triton alone."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.health import triton_is_ready
from local.server_process import ServerProcess

MODELS = ROOT / "tests/data/tiny-models"


def copied(folder: Path, *names: str) -> Path:
    """Copy tiny models into a new model repository."""
    for name in names:
        shutil.copytree(MODELS / name, folder / name)
    return folder


@contextmanager
def running(models: Path, predictor_python: Path) -> Iterator[ServerProcess]:
    """A Triton with this model repository and nothing loaded."""
    endpoint = free_endpoints()["predictor"]
    ports = ["--grpc-port", str(endpoint.port), "--metrics-port", str(endpoint.metrics_port)]
    part = ServerProcess(
        name="predictor",
        command=[str(predictor_python), "-m", "predictor", "--model-repository", str(models), *ports],
        environment={**os.environ, "PYTHONPATH": str(ROOT / "services/predictor")},
        address=endpoint.address,
        log=models.parent / "predictor.log",
        is_ready=lambda: triton_is_ready(endpoint.address),
    )
    part.start()
    while not part.poll_ready(30):
        time.sleep(0.05)
    yield part
    assert part.stop(20), "SIGTERM was not enough"
