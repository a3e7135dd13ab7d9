"""Interface of a system to the measurement."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.workloads import Arrays, ServingWorkload
from local.environments import ROOT
from local.health import triton_is_ready
from local.server_process import ServerProcess

READY_TIMEOUT_S = 300.0  # Triton takes more than a minute for 200 models
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05


class System(ABC):
    """A system under test: started in its own folder, called at `address`, and stopped."""

    name: str
    title: str
    restless = False  # takes CPU when idle, so it runs only while it is compared
    own_model = False  # runs the model itself, without a Triton

    @abstractmethod
    def start(self, folder: Path, workloads: Sequence[ServingWorkload]) -> None:
        """Start the system and wait until it answers; on failure leave nothing running. Raises `LocalError`."""

    @abstractmethod
    def stop(self) -> None:
        """Stop all processes of the system."""

    @abstractmethod
    def pids(self) -> Mapping[str, int]:
        """Process id of each part; its children are counted with it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Address that requests are sent to."""

    @property
    def predictor_address(self) -> str:
        """Address of the system's Triton."""
        return self.address

    def model(self, workload: ServingWorkload) -> str:
        """Model name in requests."""
        return workload.model

    def requests(self, workload: ServingWorkload) -> Sequence[Arrays]:
        """Inputs of the requests."""
        return workload.requests

    def answers(self, workload: ServingWorkload) -> Sequence[Arrays]:
        """Right answers to the requests."""
        return workload.answers


class Processes(System):
    """A system of separate processes. Requests go to the last of them."""

    def __init__(self) -> None:
        self.parts: Sequence[ServerProcess] = ()

    def run(self, *parts: ServerProcess) -> None:
        """Start the parts and wait until all answer; on failure leave none running. Raises `LocalError`."""
        self.parts = parts
        try:
            for part in parts:
                part.start()
            for part in parts:
                while not part.poll_ready(READY_TIMEOUT_S):
                    time.sleep(POLL_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        for part in reversed(self.parts):
            part.stop(STOP_TIMEOUT_S)

    def pids(self) -> Mapping[str, int]:
        return {part.name: part.pid for part in self.parts}

    @property
    def address(self) -> str:
        return self.parts[-1].address


def program(name: str, python: Path, words: Sequence[str], folder: Path, variables: Mapping[str, str]) -> ServerProcess:
    """A part that runs one of `programs`, or the launcher of Triton, and serves the protocol at a free port."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    return ServerProcess(
        name=name,
        command=[str(python), *(word.replace("{port}", str(port)) for word in words)],
        environment={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        address=address,
        log=folder / f"{name}.log",
        is_ready=lambda: triton_is_ready(address),
    )
