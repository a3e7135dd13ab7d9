"""The methods of preprocess: decode a request, find its version, run the pipeline."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from preprocess.catalog import CatalogClient
from preprocess.inference import InferenceRequest
from preprocess.pipeline import Pipeline
from preprocess.settings import Settings
from triptych.client.contract_cache import ContractCache
from triptych.errors import UnknownTarget
from triptych.protocol.call import Call
from triptych.protocol.infer_request import BACKGROUND, drop_inputs, request_parameters, wanted_outputs
from triptych.protocol.metadata import ModelInfo, caller_side
from triptych.protocol.tensors import request_tensors
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import current_request


class PreprocessServicer(InferenceServicer):
    """OIP for callers."""

    def __init__(
        self,
        settings: Settings,
        metrics: StageMetrics,
        catalog: CatalogClient,
        contracts: ContractCache,
        pipeline: Pipeline,
    ) -> None:
        super().__init__("preprocess", settings, metrics, lambda: catalog.complete)
        self._catalog, self._contracts, self._pipeline = catalog, contracts, pipeline
        self._most_background = int(settings.background_share * settings.max_in_flight)

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        parameters = request_parameters(request, self.limits)
        is_background = parameters.pop(BACKGROUND, False) is True
        if is_background:
            self.refuse_beyond(self._most_background)
        target = self._catalog.target(request.model_name, request.model_version, parameters, request.id)
        about = current_request()
        about.identify(target.family, target.model, str(target.version))
        plan = await self._contracts.get(target.model, target.version, call, request)
        if plan.ignores_unknown_inputs:
            drop_inputs(request, plan.known_inputs)
        tensors = request_tensors(request, plan.check_input)
        result = await self._pipeline.infer(
            InferenceRequest(
                id=request.id,
                target=target,
                plan=plan,
                call=call,
                tensors=tensors,
                parameters=plan.check_parameters(parameters),
                output_names=wanted_outputs(request, plan.outputs),
                rows=tensors.rows,
                size_bytes=tensors.size_bytes,
                is_background=is_background,
            )
        )
        about.rows, about.parts = result.rows, result.timings
        return result.response

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        """The version that is asked for; without one that with the largest share of the traffic, else the newest."""
        model = self._catalog.sample(name)
        asked = self._catalog.version(model, version).version if version else None
        described = asked or model.main_version
        plan = await self._contracts.get(model.name, described, call)
        versions = [str(target.version) for target in model.targets.values()]
        is_certain = model.name == name or self._catalog.is_family_of_one(name)
        return caller_side(
            plan.contract, name, versions, str(asked or ""), version=str(described) if is_certain else ""
        )

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        try:
            return bool(await self.describe(name, version, call))
        except UnknownTarget:
            return False
