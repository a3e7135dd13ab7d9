"""The methods of postprocess: decode a request, check it, and answer by the contract of the version that predicted."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from postprocess.checks import check_outputs
from postprocess.settings import Settings
from triptych.client.contract_cache import ContractCache
from triptych.client.upstream import Upstream
from triptych.errors import InvalidRequest, clipped, is_version
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.infer_request import request_parameters, wanted_outputs
from triptych.protocol.metadata import ModelInfo, model_side
from triptych.protocol.tensors import decode_request
from triptych.server.inference_servicer import InferenceServicer
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import current_request


class PostprocessServicer(InferenceServicer):
    """The Open Inference Protocol for preprocess, and for any caller with a model's raw outputs."""

    def __init__(
        self,
        settings: Settings,
        metrics: StageMetrics,
        contracts: ContractCache,
        postprocessor: Postprocessor,
        controller: Upstream,
    ) -> None:
        super().__init__("postprocess", settings, metrics, lambda: True)
        self._contracts, self._postprocessor, self._controller = contracts, postprocessor, controller

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        version = _version(request)
        parameters = request_parameters(request, self.limits)
        name = request.model_name
        plan = await self._contracts.get(name, version, call, request)
        about = current_request()
        about.identify(plan.contract.family, name, str(version))
        wanted = wanted_outputs(request, plan.outputs)
        tensors = decode_request(request, plan.check_model_output)
        values = plan.check_parameters(parameters)
        check_outputs(plan, tensors)
        if plan.carried:  # the outputs first, whatever the order of the message
            tensors = {name: tensors[name] for name in (*plan.model_outputs, *plan.carried) if name in tensors}
        batch = PredictedBatch(name, about.version, plan, tensors, values, wanted)
        answer = await self._postprocessor(batch)
        answer.id = about.id
        return answer

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        """Asks the controller for the versions. The newest is described if the caller names none."""
        asked = pb.ModelMetadataRequest(name=name, version=version)
        known: pb.ModelMetadataResponse = await self._controller.call("ModelMetadata", asked, call)
        newest = version or max(known.versions, key=int)
        plan = await self._contracts.get(known.name, int(newest), call)
        return model_side(plan.contract, name, list(known.versions), version)

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        return bool((await self.describe(name, version, call)).versions)


def _version(request: pb.ModelInferRequest) -> int:
    """The version of the request, which is required: the labels are those of the version that predicted."""
    if not is_version(request.model_version):
        got = clipped(request.model_version)
        raise InvalidRequest(f"want model_version, the version that predicted, as in '1', got '{got}'")
    return int(request.model_version)
