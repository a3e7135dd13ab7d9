"""Systems under test: one Triton with all three steps, or Triptych with a number of preprocess processes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.processes import free_port
from benchmarks.serving.measurement import cpu
from local.environments import ROOT
from local.health import stage_is_ready, triton_is_ready
from local.server_process import ServerProcess

READY_S, STOP_S, POLL_S = 120.0, 20.0, 0.05
KEPT_CORES = 4  # cores for Triton, postprocess, controller and the load; preprocess processes are pinned to the others
STAGES = {"PREPROCESS_WORKER_THREADS": "1"}  # one core each, like a pod with `cpu: 1`
SLOW = {  # a network of gigabytes takes longer to load than the examples
    **{
        "CONTROLLER_LOAD_TIMEOUT_S": "120",
        "CONTROLLER_WARM_UP_TIMEOUT_S": "120",
        "PREPROCESS_REQUEST_TIMEOUT_S": "120",
    },
}


@dataclass(frozen=True)
class Machine:
    """`predictor` is the Python with Triton; `path` has the folders of PyTorch and OpenCV for its models."""

    predictor: Path
    path: str
    gpu: bool


@dataclass
class GpuSystem:
    """Processes that are started in order and stopped in reverse order."""

    folder: Path
    machine: Machine
    parts: list[ServerProcess] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for part in reversed(self.parts):
            part.stop(STOP_S)

    def start(self, *parts: ServerProcess) -> None:
        """Start parts and wait until all answer; they are stopped at the end of the block. Raises `LocalError`."""
        for part in parts:
            self.parts.append(part)
            part.start()
        for part in parts:
            while not part.poll_ready(READY_S):
                time.sleep(POLL_S)

    def addresses(self, name: str) -> list[str]:
        return [part.address for part in self.parts if part.name == name]

    def cpu_s(self) -> cpu.Seconds:
        """CPU seconds since the start by part; models of the Python backend are separate."""
        used: cpu.Seconds = {}
        for part in self.parts:
            for name, seconds in cpu.of_parts({part.name: part.pid}).items():
                used[name] = used.get(name, 0.0) + seconds
        return used

    def triton(self, models: Path, metrics_port: int, load: Sequence[str] = ()) -> ServerProcess:
        """A Triton on free ports."""
        port = free_port()
        words = [
            *(str(self.machine.predictor), "-m", "predictor", "--model-repository", str(models)),
            *("--grpc-port", str(port), "--metrics-port", str(metrics_port), "--"),
            *(f"--load-model={model}" for model in load),
            *(["--allow-gpu-metrics=true", "--pinned-memory-pool-byte-size=268435456"] if self.machine.gpu else []),
        ]
        path = os.pathsep.join([str(ROOT), self.machine.path])
        variables = {"PYTHONPATH": str(ROOT / "services/predictor"), "BENCH_PATH": path}
        return self._part("predictor", words, port, variables, triton_is_ready)

    def stage(self, name: str, variables: Mapping[str, str], core: int | None = None) -> ServerProcess:
        """A stage on a free port, pinned to `core` if one is given."""
        port = free_port()
        pinned = ["taskset", "--cpu-list", str(core)] if core is not None else []
        prefix = name.upper()
        own = {f"{prefix}_PORT": str(port), f"{prefix}_METRICS_PORT": "0", f"{prefix}_DRAIN_S": "0", **variables}
        return self._part(name, [*pinned, sys.executable, "-m", name], port, own, stage_is_ready)

    def _part(
        self, name: str, words: list[str], port: int, variables: Mapping[str, str], ready: Callable[[str], bool]
    ) -> ServerProcess:
        address = f"127.0.0.1:{port}"
        log = self.folder / f"{name}-{len(self.parts)}-{port}.log"
        return ServerProcess(name, words, {**os.environ, **variables}, address, log, lambda: ready(address))


class Separate(GpuSystem):
    """Triptych. `grow` adds preprocess processes; models are loaded on request."""

    def open(self, models: Path) -> None:
        """Start all parts except preprocess."""
        documents, self.metrics_port = self.folder / "documents", free_port()
        documents.mkdir()
        self.start(triton := self.triton(models, self.metrics_port))
        self.controller_metrics_port = free_port()
        controller = self.stage(
            "controller",
            {
                **{"CONTROLLER_MODEL_REPOSITORY": str(models), "CONTROLLER_SERVED_MODELS": str(documents)},
                **{"CONTROLLER_TRITON": triton.address, "CONTROLLER_TRITON_METRICS_PORT": str(self.metrics_port)},
                **{"CONTROLLER_METRICS_PORT": str(self.controller_metrics_port)},
                **_of("CONTROLLER_", SLOW),
            },
        )
        self.start(controller)
        self.start(self.stage("postprocess", self._wiring("POSTPROCESS_")))

    def grow(self, count: int) -> None:
        """Start preprocess processes until there are `count`."""
        there = len(self.addresses("preprocess"))
        wiring = {**self._wiring("PREPROCESS_"), "PREPROCESS_POSTPROCESS": self.addresses("postprocess")[0]}
        cores = sorted(os.sched_getaffinity(0))
        pinned = shutil.which("taskset") and count <= len(cores) - KEPT_CORES
        new = [
            self.stage("preprocess", wiring, cores[KEPT_CORES + number] if pinned else None)
            for number in range(there, count)
        ]
        self.start(*new)

    def _wiring(self, prefix: str) -> dict[str, str]:
        return {f"{prefix}CONTROLLER": self.addresses("controller")[0], **_of(prefix, {**STAGES, **SLOW})}


def _of(prefix: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Settings with a stage's prefix; a stage refuses others."""
    return {name: value for name, value in settings.items() if name.startswith(prefix)}
