"""The stack on one machine as four processes, for `make run` and for the integration tests."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from local.endpoints import COMPONENTS, Endpoint, Endpoints, check_free
from local.environments import ROOT
from local.errors import LocalError
from local.health import stage_is_ready, triton_is_ready
from local.secret import hide_argument
from local.server_process import ServerProcess

MODEL_REPOSITORY = ROOT / "model-repository"
SERVED_MODELS = ROOT / "manifests/served-models"

RESTRICTED = "--grpc-restricted-protocol"  # a caller that sets this option of Triton sets CONTROLLER_TRITON_KEY, too
IN_PROCESS = {"PREPROCESS_POSTPROCESS": "in-process"}  # preprocess runs postprocess's transform: three processes
READY_TIMEOUT_S = 90.0  # with other work on the machine; alone it takes seconds
BATCHES_PER_CORE = 4  # in flight at once; as the chart does
POLL_S = 0.05

log = logging.getLogger(__name__)

# Called with a component's name, its address, and the seconds from its start until it was ready.
OnReady = Callable[[str, str, float], None]
STOP_TIMEOUT_S = 30.0
SHARED_MEMORY = Path("/dev/shm")


class LocalStack:
    """The predictor (Triton), controller, postprocess and preprocess, each under its name in `COMPONENTS`.

    `variables` are settings such as `{"PREPROCESS_LOG_LEVEL": "DEBUG"}`. They override the environment, and the
    addresses of the stack override both. `PREDICTOR_OPTIONS` holds more options for tritonserver, separated by
    blanks. With `IN_PROCESS` there is no postprocess. `more_predictors` are named `predictor-2` and so on.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        run_folder: Path,
        predictor_python: Path,
        model_repository: Path = MODEL_REPOSITORY,
        served_models: Path | None = SERVED_MODELS,
        variables: Mapping[str, str] | None = None,
        more_predictors: Sequence[Endpoint] = (),
    ) -> None:
        predictors = {f"predictor-{number}": endpoint for number, endpoint in enumerate(more_predictors, 2)}
        self.endpoints = {**endpoints, **predictors}
        self.run_folder = run_folder
        self._folders = {"CONTROLLER_MODEL_REPOSITORY": model_repository}
        given = {**predictor_batches(), **os.environ, **(variables or {})}
        given.pop("CONTROLLER_SERVED_MODELS", None)
        if served_models is not None:
            self._folders["CONTROLLER_SERVED_MODELS"] = served_models
        self._in_process = IN_PROCESS.items() <= given.items()
        self._names = (*predictors, *(name for name in COMPONENTS if name != "postprocess" or not self._in_process))
        self._key = "" if RESTRICTED in given.get("PREDICTOR_OPTIONS", "") else new_key(given)
        self._variables = {**given, **self._addresses()}
        if self._key:
            self._variables |= {"CONTROLLER_TRITON_KEY": self._key, "PREDICTOR_MODEL_CONTROL_KEY": self._key}
        self._processes = {name: self._stage(name) for name in self._names if not name.startswith("predictor")}
        for name in ("predictor", *predictors):
            self._processes[name] = self._predictor_process(name, predictor_python, model_repository)

    def start(self, on_ready: OnReady = lambda component, address, seconds: None) -> None:
        """Start all components at once and return when all are ready. On failure nothing is left running."""
        for name, folder in self._folders.items():
            if not folder.is_dir():
                raise LocalError(f"{name.lower().removeprefix('controller_')} {folder}: no such folder")
        check_free(self.endpoints[name] for name in self._names)
        self.run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for name in self._names:
                self._processes[name].log.unlink(missing_ok=True)
                self._processes[name].start()
            self._wait_ready(self._names, on_ready)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> list[str]:
        """Stop preprocess and then, as nobody calls them any more, the others. Returns those that had to be killed."""
        *others, first = self._names
        names = [first, *others]
        with ThreadPoolExecutor(len(names)) as threads:
            ended = [self.stop_component(first), *threads.map(self.stop_component, others)]
        killed = [name for name, in_time in zip(names, ended, strict=True) if not in_time]
        for name in self._names:
            if name.startswith("predictor"):
                self._free_shared_memory(self.endpoints[name].port)
        return killed

    def check(self) -> None:
        """Raise `LocalError` if a component has ended on its own."""
        for name in self._names:
            self._processes[name].check()

    def address(self, name: str) -> str:
        """`host:port` of the gRPC port of a component."""
        return self.endpoints[name].address

    def metrics_url(self, name: str) -> str:
        """The Prometheus endpoint of a component."""
        return self.endpoints[name].metrics_url

    @property
    def page_url(self) -> str:
        """Where the controller's page is for a browser on this machine; empty without one."""
        port = self._variables.get("CONTROLLER_PAGE_PORT", "0")
        return f"http://127.0.0.1:{port}/" if port != "0" else ""

    @property
    def rest_url(self) -> str:
        """Where preprocess answers REST; empty without it."""
        port = self._variables.get("PREPROCESS_REST_PORT", "0")
        return f"http://{self.address('preprocess').rpartition(':')[0]}:{port}/v2" if port != "0" else ""

    @property
    def triton_key(self) -> str:
        """The key that Triton demands for loading models, in the metadata `triton-grpc-protocol-key`."""
        return self._key

    def pids(self) -> dict[str, int]:
        """The process id of every component."""
        return {name: self._processes[name].pid for name in self._names}

    def log(self, name: str) -> Path:
        """The file with the output of a component."""
        return self._processes[name].log

    def start_component(self, name: str) -> float:
        """Start one component. Returns the seconds until it was ready."""
        self._processes[name].start()
        self._wait_ready((name,), lambda *_: None)
        return self._processes[name].uptime_s()

    def stop_component(self, name: str) -> bool:
        """Send SIGTERM to one component. Returns whether that ended it in time."""
        return self._processes[name].stop(STOP_TIMEOUT_S)

    def kill_component(self, name: str) -> None:
        """Send SIGKILL to one component, like a crash."""
        self._processes[name].kill()

    def restart_component(self, name: str) -> float:
        """Stop and start one component. Returns the seconds from start to ready."""
        self.stop_component(name)
        return self.start_component(name)

    def __enter__(self) -> LocalStack:
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
                process = self._processes[name]
                if process.poll_ready(READY_TIMEOUT_S):
                    if name.startswith("predictor"):
                        self._hide_key(name)
                    on_ready(name, process.address, process.uptime_s())
                    waiting.remove(name)
            time.sleep(POLL_S if waiting else 0)

    @staticmethod
    def _free_shared_memory(port: int) -> None:
        """Free the shared memory of a stopped Triton: 1 MiB for each process of a model that was killed (triton#7481).

        `predictor.command.remove_leftovers` does it at the next start, in Triton's Python.
        """
        for region in SHARED_MEMORY.glob(f"triptych-{port}-*"):
            region.unlink(missing_ok=True)

    def _hide_key(self, name: str) -> None:
        if self._key and not hide_argument(self._processes[name].pid, self._key):
            log.warning("users of this machine can read the key of model control in the process list, for %s", name)

    def _addresses(self) -> dict[str, str]:
        """The settings with which each component finds the others."""
        variables = {name: str(folder) for name, folder in self._folders.items()}
        for name in COMPONENTS:
            variables |= self.endpoints[name].variables()
        postprocess = IN_PROCESS if self._in_process else {"PREPROCESS_POSTPROCESS": self.address("postprocess")}
        return variables | {
            **postprocess,
            "CONTROLLER_TRITON": ",".join(self.address(name) for name in self._names if name.startswith("predictor")),
            "CONTROLLER_TRITON_METRICS_PORT": str(self.endpoints["predictor"].metrics_port),
            "CONTROLLER_IDENTITY": f"controller_{self.address('controller')}",
            "POSTPROCESS_CONTROLLER": self.address("controller"),
            "PREPROCESS_CONTROLLER": self.address("controller"),
        }

    def _stage(self, name: str) -> ServerProcess:
        address = self.address(name)
        return ServerProcess(
            name=name,
            command=[sys.executable, "-m", name],
            environment=dict(self._variables),
            address=address,
            log=self.run_folder / f"{name}.log",
            is_ready=lambda: stage_is_ready(address),
        )

    def _predictor_process(self, name: str, python: Path, model_repository: Path) -> ServerProcess:
        endpoint = self.endpoints[name]
        address = endpoint.address
        options = {
            "--model-repository": str(model_repository),
            "--host": endpoint.host,
            "--grpc-port": str(endpoint.port),
            "--metrics-port": str(endpoint.metrics_port),
        }
        return ServerProcess(
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


def predictor_batches() -> dict[str, str]:
    """The setting of preprocess for a Triton without a GPU that has all cores of this machine."""
    return {"PREPROCESS_PREDICTOR_BATCHES": str(BATCHES_PER_CORE * len(os.sched_getaffinity(0)))}


def new_key(variables: Mapping[str, str]) -> str:
    """The key that is set, else a new one, because any user of the machine reaches Triton's port."""
    return variables.get("CONTROLLER_TRITON_KEY") or secrets.token_urlsafe(24)
