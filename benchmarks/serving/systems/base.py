"""What every system offers to the measurement."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.processes import free_port
from benchmarks.serving.workloads import Arrays, Workload
from local.environments import ROOT
from local.health import triton_is_ready
from local.server_process import ServerProcess

READY_TIMEOUT_S = 300.0  # 200 models take a Triton a minute and more
STOP_TIMEOUT_S = 20.0
POLL_S = 0.05


class System(ABC):
    """Started in a folder of its own, asked at `address`, stopped by its processes' ids."""

    name: str
    title: str
    restless = False  # takes CPU when nothing is asked, so it runs only while it is compared
    own_model = False  # runs the model itself, without a Triton

    @abstractmethod
    def start(self, folder: Path, workloads: Sequence[Workload]) -> None:
        """Returns when it answers; on failure nothing is left running. Raises `LocalError`."""

    @abstractmethod
    def stop(self) -> None:
        """Nothing of it is left running."""

    @abstractmethod
    def pids(self) -> Mapping[str, int]:
        """The process of each part; its children count with it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where requests go."""

    @property
    def predictor_address(self) -> str:
        """Where the Triton of it answers."""
        return self.address

    def model(self, workload: Workload) -> str:
        """The name that requests have to give."""
        return workload.model

    def requests(self, workload: Workload) -> Sequence[Arrays]:
        """What is sent to it."""
        return workload.requests

    def answers(self, workload: Workload) -> Sequence[Arrays]:
        """What has to come back."""
        return workload.answers


class Processes(System):
    """One that is made of processes of its own. Requests go to the last of them."""

    def __init__(self) -> None:
        self.parts: Sequence[ServerProcess] = ()

    def run(self, *parts: ServerProcess) -> None:
        """Starts them and returns when all answer; on failure none is left running. Raises `LocalError`."""
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
    """A part that is one of `programs`, or the launcher of Triton; it speaks the protocol at a free port."""
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
