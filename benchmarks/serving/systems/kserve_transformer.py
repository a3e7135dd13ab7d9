"""KServe transformer: the SDK's server in front of Triton, with gRPC on both sides.

It is configured by KServe's documentation for gRPC (`--predictor_protocol grpc-v2`), except that its log lines per
request are off. The SDK's `--workers` add processes for REST only; gRPC has one process per pod.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.systems.base import Processes, program
from benchmarks.serving.systems.model_descriptions import write_descriptions
from benchmarks.serving.systems.predictor import triton
from benchmarks.serving.workloads import MODELS, ServingWorkload
from local.environments import ensure

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


class KServeTransformer(Processes):
    """KServe's transformer and a Triton."""

    name = "kserve-transformer"
    title = "KServe's transformer (SDK) in front of Triton"

    def __init__(self, models: Path = MODELS) -> None:
        super().__init__()
        self._models = models

    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        names = sorted({workload.model for workload in workloads})
        configs = write_descriptions(folder / "configs", workloads)
        (folder / "logging.yaml").write_text(QUIET)
        predictor = triton(folder, self._models, names)
        words = [
            *("-m", PROGRAM, "--models", ",".join(names), "--configs", str(configs)),
            *("--predictor_host", predictor.address, "--predictor_protocol", "grpc-v2"),
            *("--grpc_port", "{port}", "--http_port", str(free_port())),
            *("--enable_latency_logging", "false", "--log_config_file", str(folder / "logging.yaml")),
        ]
        transformer = program("transformer", ensure("bench-kserve"), words, folder, {})
        self.run(predictor, transformer)

    @property
    def predictor_address(self) -> str:
        return self.parts[0].address
