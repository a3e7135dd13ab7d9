"""One replica of the controller's Kubernetes side as a process, with a real folder and cluster but no Triton.

    python -m tests.e2e.replica MODELS NAMESPACE NAME KUBECONFIG [RELEASE]

Traffic of the documents counts as in force. A file `MODELS/../fail/<model>-<version>` makes that version fail to load,
with the file's content as the reason.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from controller.catalog.entities import Catalog
from controller.catalog.scanner import Scanner
from controller.catalog.watcher import CatalogWatcher
from controller.kubernetes.api import Api
from controller.kubernetes.cluster import Cluster, ClusterOptions
from controller.kubernetes.election import LeaseTiming
from controller.metrics import ControllerMetrics
from controller.settings import Settings
from controller.traffic.model_state import ModelState
from triptych.telemetry import logs

TIMING = LeaseTiming(lease_duration_s=3.0, renew_deadline_s=2.0, retry_period_s=0.3)


class Replica:
    """The controller without its endpoint and its Tritons."""

    def __init__(self, api: Api, models: Path, options: ClusterOptions) -> None:
        self._failing = models.parent / "fail"
        self._catalog = Catalog()
        self._in_force: dict[str, dict[int, int]] = {}
        self._reported: dict[str, dict[int, str]] = {}
        self.cluster = Cluster(api, options, self._model_state)
        metrics = ControllerMetrics(CollectorRegistry())
        self.watcher = CatalogWatcher(
            Scanner(models, None), metrics, self._changed, undeclared="none", documents=self.cluster.documents
        )

    async def run(self) -> None:
        """Run until cancelled."""
        await self.watcher.start()
        election = asyncio.create_task(self.cluster.run())
        try:
            while True:
                await asyncio.sleep(0.2)
                await self.watcher.scan()
                self._look_at_failures()
        finally:
            election.cancel()
            await asyncio.gather(election, return_exceptions=True)
            await self.cluster.close()

    def _changed(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._look_at_failures()
        self.cluster.set_catalog(catalog)
        self.cluster.models_changed(set(catalog.models))

    def _look_at_failures(self) -> None:
        failures = {name: self._failed(name) for name in self._catalog.models}
        for name, model in self._catalog.models.items():
            if not failures[name] or name not in self._in_force:
                self._in_force[name] = dict(model.traffic)
        changed = {name for name, failed in failures.items() if failed != self._reported.get(name)}
        self._reported = failures
        self.cluster.models_changed(changed)

    def _failed(self, model: str) -> dict[int, str]:
        numbers = self._catalog.models[model].traffic
        files = {number: self._failing / f"{model}-{number}" for number in numbers}
        return {number: file.read_text() for number, file in files.items() if file.exists()}

    def _model_state(self, name: str) -> ModelState | None:
        model = self._catalog.models.get(name)
        if model is None:
            return None
        failures, in_force = self._failed(name), self._in_force[name]
        held = {number: why for number, why in failures.items() if number not in in_force}
        ready = {number: ("198.18.0.1:8001",) for number in in_force if number not in failures}
        return ModelState(in_force, ready, failures, held, 1)


async def main(models: str, namespace: str, name: str, kubeconfig: str, release: str = "") -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    api = await Api.connect(Path(kubeconfig))
    lease = Settings(release=release).lease_name
    options = ClusterOptions(f"{name}_127.0.0.1:9002", namespace, release, lease, timing=TIMING)
    replica = Replica(api, Path(models), options)
    running = asyncio.create_task(replica.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    logs.configure("controller", "INFO")
    asyncio.run(main(*sys.argv[1:]))
