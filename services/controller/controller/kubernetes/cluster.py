"""The controller in Kubernetes: it watches ServedModels, takes part in the election, and writes status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from controller.catalog.entities import Catalog
from controller.kubernetes.api import NAMESPACE, Api
from controller.kubernetes.documents import KubernetesDocuments
from controller.kubernetes.election import Election, LeaseLock, LeaseTiming
from controller.kubernetes.events import EventRecorder
from controller.kubernetes.writer import StatusWriter
from controller.traffic.model_state import ModelState

RESTART_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterOptions:
    """Options of a replica in a cluster. `namespace`: of ServedModels and lease; empty: that of the pod.

    `release`: only its ServedModels are followed; empty: those that name none. `identity`: `<pod>_<host:port>`, at
    which other replicas reach this one if it leads. `kubeconfig`: only outside of a pod.
    """

    identity: str
    namespace: str = ""
    release: str = ""
    lease: str = "triptych-controller"
    kubeconfig: Path | None = None
    timing: LeaseTiming = field(default_factory=LeaseTiming)


class Cluster:
    """Connects documents, election and status writer. It takes each catalog and the models that changed."""

    def __init__(
        self,
        api: Api,
        options: ClusterOptions,
        model_state: Callable[[str], ModelState | None],
        on_started: Callable[[], None] = lambda: None,
        on_stopped: Callable[[], None] = lambda: None,
    ) -> None:
        self._api, self._on_started, self._on_stopped = api, on_started, on_stopped
        namespace = options.namespace or pod_namespace()
        self.documents = KubernetesDocuments(api, namespace, options.release)
        recorder = EventRecorder(api, namespace, options.identity.partition("_")[0])
        self.writer = StatusWriter(api, self.documents, recorder, model_state)
        self.election = Election(
            LeaseLock(api, namespace, options.lease),
            options.identity,
            timing=options.timing,
            on_started=self._started,
            on_stopped=self._stopped,
        )
        self._writing: asyncio.Task[None] | None = None

    def set_catalog(self, catalog: Catalog) -> None:
        self.writer.set_catalog(catalog)

    def models_changed(self, models: set[str]) -> None:
        self.writer.models_changed(models)

    async def run(self) -> None:
        """Take part in the election until cancelled.

        Start it after the first catalog and the first observation of predictors: the leader writes both.
        """
        while True:
            try:
                await self.election.run()
            except Exception:
                log.exception("internal error")
            await asyncio.sleep(RESTART_S)

    async def close(self) -> None:
        await self.documents.close()
        await self._api.close()

    def _started(self) -> None:
        self._writing = asyncio.create_task(self.writer.run())
        self._writing.add_done_callback(_log_error)
        self._on_started()

    def _stopped(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
        self._on_stopped()


def pod_namespace() -> str:
    """The namespace of this pod. Raises `OSError` outside of a pod."""
    return NAMESPACE.read_text(encoding="utf-8").strip()


def _log_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("internal error", exc_info=error)
