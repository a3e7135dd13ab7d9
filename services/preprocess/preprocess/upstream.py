"""All outbound calls of preprocess: to Triton, to postprocess, and to the repository for a load."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from tritonclient.grpc import service_pb2 as pb

from preprocess.catalogue import Target
from preprocess.settings import Settings
from triptych.call import Call
from triptych.client import Upstream
from triptych.contracts import REPOSITORY_SERVICE
from triptych.datatypes import Array
from triptych.errors import NotThere, StageUnavailable
from triptych.oip import SERVICE
from triptych.proto import repository_pb2 as rp
from triptych.tensors import encode_request


class Upstreams:
    """One channel to each part, and one to each Triton pod that the placement has named."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.repository = Upstream("repository", settings.repository, REPOSITORY_SERVICE, relays=True)
        self.postprocess = Upstream("postprocess", settings.postprocess, SERVICE, relays=False)
        self._predictors: dict[str, Upstream] = {}
        self._in_flight: dict[str, int] = {}

    async def predict(self, target: Target, tensors: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        """The model's outputs. Asks for a load when no Triton has it, and once more when it turns out gone."""
        request = pb.ModelInferRequest(model_name=target.model, model_version=str(target.version))
        encode_request(request, tensors)
        if target.predictors:
            with contextlib.suppress(StageUnavailable, NotThere):  # the placement is behind; the repository knows
                return await self._infer(target.predictors, request, call)
        return await self._infer(await self._load(target, call), request, call)

    async def finish(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Postprocess's answer to the model's outputs."""
        return await self.postprocess.call("ModelInfer", request, call, self._settings.postprocess_timeout_s)

    async def close(self) -> None:
        for upstream in (self.repository, self.postprocess, *self._predictors.values()):
            await upstream.close()

    async def _load(self, target: Target, call: Call) -> Sequence[str]:
        request = rp.EnsureLoadedRequest(model=target.model, version=target.version)
        reply: rp.EnsureLoadedReply = await self.repository.call("EnsureLoaded", request, call)
        return reply.predictors

    async def _infer(
        self, addresses: Sequence[str], request: pb.ModelInferRequest, call: Call
    ) -> pb.ModelInferResponse:
        address = min(addresses, key=lambda each: self._in_flight.get(each, 0))
        self._in_flight[address] = self._in_flight.get(address, 0) + 1
        try:
            return await self._predictor(address).call("ModelInfer", request, call, self._settings.predict_timeout_s)
        finally:
            self._in_flight[address] -= 1

    def _predictor(self, address: str) -> Upstream:
        upstream = self._predictors.get(address)
        if upstream is None:
            upstream = self._predictors[address] = Upstream("predictor", address, SERVICE, relays=False)
        return upstream
