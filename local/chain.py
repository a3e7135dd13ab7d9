"""The four processes of the chain on one machine, for `make run` and for the integration tests."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from local.endpoints import PARTS, Endpoint, Endpoints, check_free
from local.environments import ROOT
from local.errors import LocalError
from local.health import stage_is_ready, triton_is_ready
from local.part import Part
from local.secret import hide_argument

MODEL_REPOSITORY = ROOT / "model-repository"
SERVED_MODELS = ROOT / "manifests/served-models"

RESTRICTED = "--grpc-restricted-protocol"  # who gives this option to Triton gives CONTROLLER_TRITON_KEY, too
IN_PROCESS = {"PREPROCESS_POSTPROCESS": "in-process"}  # preprocess does postprocess's work: no such part is started
READY_TIMEOUT_S = 60.0
POLL_S = 0.05

log = logging.getLogger(__name__)

# Called with the name of a part, its address and the seconds from its start until it was ready.
OnReady = Callable[[str, str, float], None]
STOP_TIMEOUT_S = 30.0
SHARED_MEMORY = Path("/dev/shm")


class Chain:
    """Triton, controller, postprocess and preprocess, each under its name in `PARTS`.

    `variables` are settings beside the wiring, such as `{"PREPROCESS_LOG_LEVEL": "DEBUG"}`; what the
    surrounding environment sets counts too, and the wiring wins over both. `PREDICTOR_OPTIONS` is among
    them: more options for tritonserver, with blanks between. With `IN_PROCESS` among them there is no postprocess.
    `more_tritons` get the names `predictor-2` and so on.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        run_folder: Path,
        predictor_python: Path,
        model_repository: Path = MODEL_REPOSITORY,
        served_models: Path = SERVED_MODELS,
        variables: Mapping[str, str] | None = None,
        more_tritons: Sequence[Endpoint] = (),
    ) -> None:
        tritons = {f"predictor-{number}": endpoint for number, endpoint in enumerate(more_tritons, 2)}
        self.endpoints = {**endpoints, **tritons}
        self.run_folder = run_folder
        self._folders = {
            "CONTROLLER_MODEL_REPOSITORY": model_repository,
            "CONTROLLER_SERVED_MODELS": served_models,
        }
        given = {**os.environ, **(variables or {})}
        self._in_process = IN_PROCESS.items() <= given.items()
        self._names = (*tritons, *(part for part in PARTS if part != "postprocess" or not self._in_process))
        self._key = "" if RESTRICTED in given.get("PREDICTOR_OPTIONS", "") else new_key(given)
        self._variables = {**given, **self._wiring()}
        if self._key:
            self._variables |= {"CONTROLLER_TRITON_KEY": self._key, "PREDICTOR_MODEL_CONTROL_KEY": self._key}
        self._parts = {name: self._part(name) for name in self._names if not name.startswith("predictor")}
        for name in ("predictor", *tritons):
            self._parts[name] = self._predictor(name, predictor_python, model_repository)

    def start(self, on_ready: OnReady = lambda part, address, seconds: None) -> None:
        """Starts all parts at once and returns when all are ready; on failure nothing is left running."""
        for name, folder in self._folders.items():
            if not folder.is_dir():
                raise LocalError(f"{name.lower().removeprefix('controller_')} {folder}: no such folder")
        check_free(self.endpoints[name] for name in self._names)
        self.run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for name in self._names:
                self._parts[name].log.unlink(missing_ok=True)
                self._parts[name].start()
            self._wait_ready(self._names, on_ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        """Stops all parts, the entry first. Returns the names of those that had to be killed."""
        killed = [name for name in reversed(self._names) if not self._parts[name].stop(STOP_TIMEOUT_S)]
        for name in self._names:
            if name.startswith("predictor"):
                self._free_shared_memory(self.endpoints[name].port)
        return killed

    def check(self) -> None:
        """Raises `LocalError` if a part has ended on its own."""
        for name in self._names:
            self._parts[name].check()

    def address(self, name: str) -> str:
        """`host:port` of the gRPC port of a part."""
        return self.endpoints[name].address

    def metrics_url(self, name: str) -> str:
        """The Prometheus endpoint of a part."""
        return self.endpoints[name].metrics_url

    @property
    def triton_key(self) -> str:
        """What Triton wants from who loads models: in the metadata `triton-grpc-protocol-key`."""
        return self._key

    def pids(self) -> dict[str, int]:
        """The process id of every part."""
        return {name: self._parts[name].pid for name in self._names}

    def log(self, name: str) -> Path:
        """The file with the output of a part."""
        return self._parts[name].log

    def start_part(self, name: str) -> float:
        """Starts one part; returns the seconds until it was ready."""
        self._parts[name].start()
        self._wait_ready((name,), lambda *_: None)
        return self._parts[name].seconds()

    def stop_part(self, name: str) -> bool:
        """SIGTERM for one part. Returns whether it was enough."""
        return self._parts[name].stop(STOP_TIMEOUT_S)

    def kill_part(self, name: str) -> None:
        """SIGKILL for one part, as a crash would be."""
        self._parts[name].kill()

    def restart_part(self, name: str) -> float:
        """Stops and starts one part; returns the seconds from start to ready."""
        self.stop_part(name)
        return self.start_part(name)

    def __enter__(self) -> Chain:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self, names: Sequence[str], on_ready: OnReady) -> None:
        waiting = list(names)
        while waiting:
            for name in tuple(waiting):
                part = self._parts[name]
                if part.ready(READY_TIMEOUT_S):
                    if name.startswith("predictor"):
                        self._hide_key(name)
                    on_ready(name, part.address, part.seconds())
                    waiting.remove(name)
            time.sleep(POLL_S if waiting else 0)

    @staticmethod
    def _free_shared_memory(port: int) -> None:
        """Frees what a Triton left behind: 1 MiB for each process of a model that was killed (triton#7481).

        `predictor.command.remove_leftovers` does it at the next start, in Triton's Python.
        """
        for region in SHARED_MEMORY.glob(f"triptych-{port}-*"):
            region.unlink(missing_ok=True)

    def _hide_key(self, name: str) -> None:
        if self._key and not hide_argument(self._parts[name].pid, self._key):
            log.warning("users of this machine can read the key of model control in the process list, for %s", name)

    def _wiring(self) -> dict[str, str]:
        """Who finds whom where."""
        wiring = {name: str(folder) for name, folder in self._folders.items()}
        for name in PARTS:
            wiring |= self.endpoints[name].variables()
        postprocess = IN_PROCESS if self._in_process else {"PREPROCESS_POSTPROCESS": self.address("postprocess")}
        return wiring | {
            **postprocess,
            "CONTROLLER_TRITON": ",".join(self.address(name) for name in self._names if name.startswith("predictor")),
            "CONTROLLER_TRITON_METRICS_PORT": str(self.endpoints["predictor"].metrics_port),
            "CONTROLLER_IDENTITY": f"controller_{self.address('controller')}",
            "POSTPROCESS_CONTROLLER": self.address("controller"),
            "PREPROCESS_CONTROLLER": self.address("controller"),
        }

    def _part(self, name: str) -> Part:
        address = self.address(name)
        return Part(
            name=name,
            command=[sys.executable, "-m", name],
            environment=dict(self._variables),
            address=address,
            log=self.run_folder / f"{name}.log",
            is_ready=lambda: stage_is_ready(address),
        )

    def _predictor(self, name: str, python: Path, model_repository: Path) -> Part:
        endpoint = self.endpoints[name]
        address = endpoint.address
        options = {
            "--model-repository": str(model_repository),
            "--host": endpoint.host,
            "--grpc-port": str(endpoint.port),
            "--metrics-port": str(endpoint.metrics_port),
        }
        return Part(
            name=name,
            command=[
                str(python),
                "-m",
                "predictor",
                *(word for option in options.items() for word in option),
                "--",
                *self._variables.get("PREDICTOR_OPTIONS", "").split(),
            ],
            environment={**self._variables, "PYTHONPATH": str(ROOT / "services/predictor")},
            address=address,
            log=self.run_folder / f"{name}.log",
            is_ready=lambda: triton_is_ready(address),
        )


def new_key(variables: Mapping[str, str]) -> str:
    """The key that is set, else a new one: any user of the machine reaches Triton's port."""
    return variables.get("CONTROLLER_TRITON_KEY") or secrets.token_urlsafe(24)
