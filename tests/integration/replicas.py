"""Two replicas of the controller with one real Triton, and the stages."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType

from local.endpoints import Endpoint, free_endpoints
from local.environments import ROOT
from local.health import stage_is_ready, triton_is_ready
from local.server_process import ServerProcess
from tests.integration.load import until

READY_S = 60.0
STOP_S = 20.0


class Replicas:
    """Replicas `controller-0`, the leader, and `controller-1`. The stages know both, as through a Service.

    `kubeconfig` and `namespace` locate the lease.
    """

    def __init__(self, folder: Path, predictor_python: Path, kubeconfig: Path, namespace: str = "test") -> None:
        self._folder = folder
        self._endpoints = free_endpoints()
        self._second = free_endpoints()["controller"]
        self.models = ROOT / "model-repository"
        both = f"ipv4:{self._address('controller')},{self._second.address}"
        wiring = {
            "PREPROCESS_CONTROLLER": both,
            "POSTPROCESS_CONTROLLER": both,
            "PREPROCESS_POSTPROCESS": self._address("postprocess"),
        }
        cluster = {
            "CONTROLLER_KUBERNETES": "true",
            "CONTROLLER_KUBECONFIG": str(kubeconfig),
            "CONTROLLER_NAMESPACE": namespace,
            "CONTROLLER_MODEL_REPOSITORY": str(self.models),
            "CONTROLLER_TRITON": self._address("predictor"),
            "CONTROLLER_TRITON_METRICS_PORT": "0",
            "CONTROLLER_MAX_CONCURRENT_LOADS": "1",
        }
        self.parts = {
            "predictor": self._predictor(predictor_python),
            "controller-0": self._stage("controller", "controller-0", self._endpoints["controller"], cluster),
            "controller-1": self._stage("controller", "controller-1", self._second, cluster),
            **{name: self._stage(name, name, self._endpoints[name], wiring) for name in ("postprocess", "preprocess")},
        }

    @property
    def address(self) -> str:
        """Address of preprocess."""
        return self._address("preprocess")

    @property
    def triton(self) -> str:
        return self._address("predictor")

    def log(self, part: str) -> str:
        return self.parts[part].log.read_text(errors="replace")

    def start(self, *names: str) -> None:
        """Start parts and wait until they are ready."""
        for name in names:
            self.parts[name].start()
        for name in names:
            until(partial(self.parts[name].poll_ready, READY_S), READY_S)

    def leads(self, name: str) -> bool:
        """Whether the replica has logged that it leads."""
        return '"leadership acquired"' in self.log(name)

    def __enter__(self) -> Replicas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for part in reversed(self.parts.values()):
            part.stop(STOP_S)

    def _address(self, name: str) -> str:
        return self._endpoints[name].address

    def _stage(self, module: str, name: str, endpoint: Endpoint, variables: Mapping[str, str]) -> ServerProcess:
        upper = module.upper()
        own = {f"{upper}_PORT": str(endpoint.port), f"{upper}_METRICS_PORT": str(endpoint.metrics_port)}
        if module == "controller":
            own["CONTROLLER_IDENTITY"] = f"{name}_{endpoint.address}"
        wanted = {key: value for key, value in variables.items() if key.startswith(f"{upper}_")}
        return ServerProcess(
            name=name,
            command=[sys.executable, "-m", module],
            environment={**os.environ, **wanted, **own},
            address=endpoint.address,
            log=self._folder / f"{name}.log",
            is_ready=partial(stage_is_ready, endpoint.address),
        )

    def _predictor(self, python: Path) -> ServerProcess:
        endpoint = self._endpoints["predictor"]
        options = {"--model-repository": str(self.models), "--grpc-port": str(endpoint.port), "--metrics-port": "0"}
        words = [word for option in options.items() for word in option]
        return ServerProcess(
            name="predictor",
            command=[str(python), "-m", "predictor", *words],
            environment={**os.environ, "PYTHONPATH": str(ROOT / "services/predictor")},
            address=endpoint.address,
            log=self._folder / "predictor.log",
            is_ready=partial(triton_is_ready, endpoint.address),
        )
