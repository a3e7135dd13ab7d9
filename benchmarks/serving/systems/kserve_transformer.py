"""KServe's transformer: the SDK's server in front of Triton, gRPC on both sides.

As KServe's documentation has a transformer for gRPC: `--predictor_protocol grpc-v2`. Its log lines for each request are
switched off, which the documentation does not do. The SDK's `--workers` make more processes for REST alone; gRPC has
one process in each pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import STOP_TIMEOUT_S, System, program, wait_ready
from benchmarks.serving.systems.described import write_descriptions
from benchmarks.serving.systems.predictor import triton
from benchmarks.serving.workloads import MODELS, Workload
from local.environments import ensure
from local.part import Part

PROGRAM = "benchmarks.serving.programs.kserve_transformer"
QUIET = """\
version: 1
disable_existing_loggers: false
root: {level: WARNING}
loggers:
  kserve: {level: WARNING}
  kserve.trace: {level: WARNING}
  uvicorn: {level: WARNING}
"""


class KServeTransformer(System):
    """Two processes and Triton's."""

    name = "kserve-transformer"
    title = "KServe's transformer (SDK) in front of Triton"

    def __init__(self, models: Path = MODELS) -> None:
        self._models = models
        self._parts: list[Part] = []

    def start(self, folder: Path, workloads: Sequence[Workload]) -> None:
        names = sorted({workload.model for workload in workloads})
        configs = write_descriptions(folder / "configs", workloads)
        (folder / "logging.yaml").write_text(QUIET)
        predictor = triton("predictor", folder, self._models, names)
        words = [
            *("-m", PROGRAM, "--models", ",".join(names), "--configs", str(configs)),
            *("--predictor_host", predictor.address, "--predictor_protocol", "grpc-v2"),
            *("--grpc_port", "{port}", "--http_port", str(free_port())),
            *("--enable_latency_logging", "false", "--log_config_file", str(folder / "logging.yaml")),
        ]
        transformer = program("transformer", ensure("bench-kserve"), words, folder, {})
        self._parts = [predictor, transformer]
        try:
            for part in self._parts:
                part.start()
            wait_ready(self._parts)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for part in reversed(self._parts):
            part.stop(STOP_TIMEOUT_S)

    def pids(self) -> Mapping[str, int]:
        return {part.name: part.pid for part in self._parts}

    @property
    def address(self) -> str:
        return self._parts[-1].address

    @property
    def predictor_address(self) -> str:
        return self._parts[0].address
