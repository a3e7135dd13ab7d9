"""Preprocess's answers: decode, check, transform, predict, postprocess, encode."""

from __future__ import annotations

from tritonclient.grpc import service_pb2 as pb

from preprocess.catalogue import Catalogue, Target
from preprocess.settings import Settings
from preprocess.transform import Transform
from preprocess.upstream import Upstreams
from triptych.call import Call
from triptych.contract import Plan
from triptych.contracts import ContractStore
from triptych.datatypes import Array
from triptych.errors import UnknownTarget, UnknownVersion
from triptych.metrics import StageMetrics, current
from triptych.oip import InferenceServicer, ModelInfo
from triptych.tensors import (
    decode_parameters,
    decode_request,
    decode_response,
    encode_parameter,
    encode_request,
    wanted_outputs,
)
from triptych.view import caller_side


class PreprocessServicer(InferenceServicer):
    """OIP for callers."""

    def __init__(
        self,
        settings: Settings,
        metrics: StageMetrics,
        catalogue: Catalogue,
        contracts: ContractStore,
        transform: Transform,
        upstreams: Upstreams,
    ) -> None:
        super().__init__("preprocess", settings, metrics, lambda: catalogue.complete)
        self._catalogue, self._contracts = catalogue, contracts
        self._transform, self._upstreams = transform, upstreams

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        parameters = decode_parameters(request.parameters)
        target = self._catalogue.target(request.model_name, request.model_version, parameters, request.id)
        current().known(target.family, target.model, str(target.version))
        plan = await self._contracts.get(target.model, target.version, call)
        wanted_outputs(request, [output.name for output in plan.contract.outputs])
        with current().part("transform"):
            tensors = await self._transform(plan, decode_request(request), parameters, request.ByteSize())
        with current().part("predict"):
            predicted = await self._upstreams.predict(target, tensors, call)
        with current().part("postprocess"):
            outputs = self._checked_outputs(plan, predicted, tensors)
            return await self._finish(request, target, outputs, call)

    async def describe(self, name: str, version: str, call: Call) -> ModelInfo:
        model = self._catalogue.sample(name)
        versions = [entry.version for entry in model.versions]
        if version and version not in map(str, versions):
            raise UnknownVersion(name, version, map(str, versions))
        plan = await self._contracts.get(model.name, int(version) if version else max(versions), call)
        return caller_side(plan.contract, name, [str(number) for number in versions])

    async def model_available(self, name: str, version: str, call: Call) -> bool:
        try:
            return bool(await self.describe(name, version, call))
        except UnknownTarget:
            return False

    @staticmethod
    def _checked_outputs(plan: Plan, predicted: pb.ModelInferResponse, tensors: dict[str, Array]) -> dict[str, Array]:
        outputs = decode_response(predicted)
        rows = current().rows = len(next(iter(tensors.values())))
        plan.check_model_outputs(outputs, rows)
        return outputs

    async def _finish(
        self, request: pb.ModelInferRequest, target: Target, outputs: dict[str, Array], call: Call
    ) -> pb.ModelInferResponse:
        """Sends the model's outputs on with the caller's id, parameters and wanted outputs, and signs the answer."""
        onward = pb.ModelInferRequest(
            model_name=target.model,
            model_version=str(target.version),
            id=request.id,
            parameters=request.parameters,
            outputs=request.outputs,
        )
        answer = await self._upstreams.finish(encode_request(onward, outputs), call)
        answer.parameters["triptych_preprocess_revision"].CopyFrom(encode_parameter(self.settings.revision))
        return answer
