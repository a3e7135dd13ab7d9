"""The methods of the controller: its own protocol for the stages, the Open Inference Protocol for everyone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from tritonclient.grpc import service_pb2 as pb

from controller.call_slots import CallSlots
from controller.catalog.entities import Model, Version
from controller.catalog.step_files import StepFileReader
from controller.describe import describe
from controller.journal import Journal
from controller.leader_forwarding import LoadForwarder
from controller.placement.placement import Placement
from controller.traffic.model_state import NOT_LOADED
from controller.traffic.watch_hub import WatchHub
from triptych.errors import NotSupported, Unavailable, UnknownVersion, is_version
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.metadata import ModelInfo, caller_side
from triptych.runtime.settings import StageSettings
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

YIELD_EVERY = 500  # entries of an index, between which other calls and the lease have their turn
MAX_FAILING = 8  # most addresses that one call may name
_ONE_REPOSITORY = "want no repository_name: there is one model repository here"
_NO_INFERENCE = "the controller answers no inference; call preprocess (port 9000 unless set otherwise)"


class ControllerServicer:
    """The methods of triptych.v1.Controller."""

    def __init__(
        self,
        watch_hub: WatchHub,
        placement: Placement,
        forwarder: LoadForwarder,
        journal: Journal,
        tracing: Tracing,
        slots: CallSlots,
        store: Callable[[], cp.Store],
        step_files: StepFileReader,
    ) -> None:
        self._watch_hub, self._placement, self._forwarder = watch_hub, placement, forwarder
        self._journal, self._tracing = journal, tracing
        self._slots, self._store, self._step_files = slots, store, step_files

    def watch(self, _request: cp.WatchRequest, call: Call) -> AsyncIterator[bytes]:
        return self._watch_hub.updates(call)

    async def get_contract(self, request: cp.GetContractRequest, _call: Call) -> cp.GetContractReply:
        version = _published(self._watch_hub).catalog.version(request.model, request.version)
        return cp.GetContractReply(
            contract_json=version.canonical, digest=version.digest, step_files=version.step_files
        )

    async def get_step_file(self, request: cp.GetStepFileRequest, _call: Call) -> cp.GetStepFileReply:
        version = _published(self._watch_hub).catalog.version(request.model, request.version)
        file = await asyncio.to_thread(self._step_files.read, request.model, version, request.path)
        return cp.GetStepFileReply(content=file.content)

    async def ensure_loaded(self, request: cp.EnsureLoadedRequest, call: Call) -> cp.EnsureLoadedReply:
        _published(self._watch_hub).catalog.version(request.model, request.version)
        with self._slots.slot(call), self._tracing.span("controller", call) as span:
            span.describe(request.model, str(request.version), 0)
            failing = request.failing[:MAX_FAILING]
            holders = await self._forwarder.ensure_loaded(
                request.model, request.version, call, forwarded=request.forwarded, failing=failing
            )
        return cp.EnsureLoadedReply(predictors=holders)

    async def describe(self, _request: cp.DescribeRequest, _call: Call) -> cp.DescribeReply:
        return describe(self._placement, self._journal, self._store())


class CatalogServicer(InferenceServicer):
    """The methods of inference.GRPCInferenceService that a catalog can answer."""

    extensions = ("model_repository", "model_configuration")

    def __init__(
        self,
        settings: StageSettings,
        metrics: StageMetrics,
        watch_hub: WatchHub,
        placement: Placement,
        forwarder: LoadForwarder,
        slots: CallSlots,
        is_ready: Callable[[], bool],
    ) -> None:
        super().__init__("controller", settings, metrics, is_ready)
        self._watch_hub, self._placement, self._forwarder, self._slots = watch_hub, placement, forwarder, slots
        self._indexing = asyncio.Lock()

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        """The inputs and outputs of a version for callers, by its contract."""
        model, chosen = self._version(name, version)
        versions = [str(number) for number in sorted(model.versions)]
        return caller_side(chosen.contract, name, versions, version, version=str(chosen.number))

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        """Whether a predictor has the version ready; without a version, all versions in traffic."""
        model = _published(self._watch_hub).catalog.model(name)
        versions = {self._version(name, version)[1].number} if version else model.in_traffic
        return all(self._placement.serves((name, number)) for number in versions)

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        raise NotSupported(_NO_INFERENCE)

    async def model_config(self, request: pb.ModelConfigRequest, call: Call) -> pb.ModelConfigResponse:
        self.check(request, request.name, request.version)
        model, _ = self._version(request.name, request.version)
        return pb.ModelConfigResponse(config=model.config)

    async def repository_index(self, request: pb.RepositoryIndexRequest, call: Call) -> pb.RepositoryIndexResponse:
        """One index at a time: while it is made, an index of 10,000 versions takes megabytes."""
        self.check(request)
        _refuse_repository_name(request.repository_name)
        async with self._indexing:
            call.remaining_s()  # the wait may have taken the time of the call
            return await self._index_response(request.ready)

    async def _index_response(self, only_ready: bool) -> pb.RepositoryIndexResponse:
        models: list[pb.RepositoryIndexResponse.ModelIndex] = []
        for number, entry in enumerate(self._index(), start=1):
            if entry.state == "READY" or not only_ready:
                models.append(entry)
            if not number % YIELD_EVERY:
                await asyncio.sleep(0)
        return pb.RepositoryIndexResponse(models=models)

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest, call: Call
    ) -> pb.RepositoryModelLoadResponse:
        """Load all versions in traffic; answer once they are ready."""
        self.check(request, request.model_name)
        _refuse_repository_name(request.repository_name)
        if request.parameters:
            raise NotSupported("a load takes no parameters here; the model repository defines what is served")
        model = _published(self._watch_hub).catalog.model(request.model_name)
        with self._slots.slot(call):
            for version in sorted(model.in_traffic):
                await self._forwarder.ensure_loaded(model.name, version, call)
        return pb.RepositoryModelLoadResponse()

    def _version(self, name: str, version: str) -> tuple[Model, Version]:
        """The version of that number; without one, the highest in traffic."""
        model = _published(self._watch_hub).catalog.model(name)
        if not version:
            return model, model.versions[max(model.in_traffic)]
        if not is_version(version):
            raise UnknownVersion(name, version, model.versions)
        return model, self._watch_hub.catalog.version(name, int(version))

    def _index(self) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
        """Every model and version, invalid ones with the reason, and those whose edits are ignored with that."""
        entry = pb.RepositoryIndexResponse.ModelIndex
        catalog = _published(self._watch_hub).catalog
        for name, model in sorted(catalog.models.items()):
            for number in sorted(model.versions):
                state, reason = self._state(name, number)
                ignored = [edit.text for edit in catalog.edits.get(name, ()) if edit.version in (None, number)]
                text = "; ".join([reason, *ignored] if reason else ignored)
                yield entry(name=name, version=str(number), state=state, reason=text)
        for (name, version), text in list(catalog.invalid.items()):
            yield entry(name=name, version=str(version or ""), state="UNAVAILABLE", reason=text)

    def _state(self, name: str, version: int) -> tuple[str, str]:
        if failing := self._placement.failing(name, [version]):
            return "UNAVAILABLE", failing[version]
        if self._placement.fleet.holders((name, version)):
            return "READY", ""
        if self._placement.state.in_progress.loading((name, version)):
            return "LOADING", ""
        failures = self._placement.failures(name, [version])
        return "UNAVAILABLE", failures.get(version, NOT_LOADED)


def _refuse_repository_name(name: str) -> None:
    if name:
        raise NotSupported(_ONE_REPOSITORY)


def _published(watch_hub: WatchHub) -> WatchHub:
    """The hub once it is published. Raises `Unavailable` before the first scan of the model repository."""
    if not watch_hub.published:
        raise Unavailable("the controller is starting and has not read its models yet; try again")
    return watch_hub
