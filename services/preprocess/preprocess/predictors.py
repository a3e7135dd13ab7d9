"""All outbound calls of preprocess: to Triton, to postprocess, and to the controller for a load."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from tritonclient.grpc import service_pb2 as pb

from preprocess.catalog import Target
from preprocess.settings import Settings
from triptych.client.contract_store import CONTROLLER_SERVICE
from triptych.client.triton_errors import inference_error
from triptych.client.upstream import Inferences, Upstream
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, ModelFailing, NotThere, Overloaded, StageUnavailable, Unavailable
from triptych.postprocessing import Predicted
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.tensors import encode_parameter, encode_request
from triptych.server.inference_servicer import SERVICE

TRIES = 3  # loads asked for in one request: a Triton may die just after it has loaded
FAILING_TRIES = 2  # Tritons on which a request finds that the model cannot run, before the controller is asked
UNUSED_S = 300.0  # a Triton that went away leaves its channel for that long


class _Predictor:
    """The channel to one Triton, and the inferences that it is working on."""

    def __init__(self, address: str, settings: Settings) -> None:
        self.upstream = Upstream(
            "predictor",
            address,
            SERVICE,
            relays=False,
            transport=settings.transport,
            meaning=inference_error,
        )
        self.address, self._settings = address, settings
        self._inferences = Inferences(self.upstream)
        self._awaited = 0

    @property
    def in_flight(self) -> int:
        """Calls that Triton has not answered, also those that nobody waits for any more."""
        return len(self._inferences)

    async def infer(self, request: pb.ModelInferRequest, call: Call) -> pb.ModelInferResponse:
        """Raises what `Inferences.infer` raises, and `Overloaded` when too many calls are not answered."""
        limit_s = self._settings.predict_timeout_s
        if self.in_flight >= self._settings.max_in_flight:
            raise Overloaded(f"predictor at {self.address} has {self.in_flight} calls to answer, the limit; try later")
        self._awaited += 1
        try:
            return await self._inferences.infer(request, call.remaining_s(limit_s), limit_s, call.metadata)
        finally:
            self._awaited -= 1

    @property
    def has_abandoned(self) -> bool:
        """Whether there are calls that Triton works on and nobody waits for."""
        return len(self._inferences) > self._awaited

    @property
    def is_unused(self) -> bool:
        return not self._inferences and time.monotonic() - self._inferences.ended_s > UNUSED_S


class Upstreams:
    """One channel to the controller, and one to each Triton that the placement has named."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.controller = Upstream.of_stage(
            settings, "controller", settings.controller, CONTROLLER_SERVICE, relays=True
        )
        self._predictors: dict[str, _Predictor] = {}

    async def predict(self, target: Target, tensors: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        """The model's outputs. Asks for a load when no Triton has it, and again when it turns out gone.

        The controller is told where the model cannot run. Such a request is tried on two Tritons, and once more after
        the controller has answered: it may itself be what ends the model's process.
        """
        request = pb.ModelInferRequest(model_name=target.model, model_version=str(target.version))
        encode_request(request, tensors)
        failing: list[str] = []
        if answer := await self._infer(target.predictors, request, call, failing, FAILING_TRIES):
            return answer
        for _ in range(TRIES):
            known = len(failing)
            predictors = await self._load(target, call, failing)
            if answer := await self._infer(predictors, request, call, failing, known + 1):
                return answer
            if len(failing) > known:
                raise ModelFailing(f"version {target.version} of model '{target.model}' cannot run now; try again")
        raise Unavailable(f"model '{target.model}' was loaded {TRIES} times and gone again each time; try again")

    def has_abandoned(self, target: Target) -> bool:
        """Whether a Triton that has the version works on calls that nobody waits for any more."""
        for address in target.predictors:
            predictor = self._predictors.get(address)
            if predictor is not None and predictor.has_abandoned:
                return True
        return False

    async def close(self) -> None:
        predictors = (each.upstream for each in self._predictors.values())
        for upstream in (self.controller, *predictors):
            await upstream.close()

    async def _load(self, target: Target, call: Call, failing: Sequence[str]) -> Sequence[str]:
        request = cp.EnsureLoadedRequest(model=target.model, version=target.version, failing=failing)
        reply: cp.EnsureLoadedReply = await self.controller.call("EnsureLoaded", request, call)
        for gone in [address for address, each in self._predictors.items() if each.is_unused]:
            await self._predictors.pop(gone).upstream.close()
        return reply.predictors

    async def _infer(
        self, addresses: Sequence[str], request: pb.ModelInferRequest, call: Call, failing: list[str], most: int
    ) -> pb.ModelInferResponse | None:
        """The answer of one of these Tritons, the least busy first, of equally busy ones that of the own pod.

        None when none of them has the model. A call is idempotent: one that hangs or has died is followed by the next.
        `failing` gathers the Tritons where the model cannot run, up to `most`.
        """
        slow: DeadlineExceeded | None = None
        for predictor in self._ranked(addresses):
            try:
                return await predictor.infer(request, call)
            except (StageUnavailable, NotThere):  # the placement is behind
                continue
            except ModelFailing:
                failing.append(predictor.address)
                if len(failing) >= most:
                    return None
            except DeadlineExceeded as error:
                slow = error
                call.remaining_s()
        if slow is not None:
            raise slow
        return None

    def _ranked(self, addresses: Sequence[str]) -> Sequence[_Predictor]:
        predictors = [self._predictor(address) for address in addresses]
        if len(predictors) > 1:
            own = self._settings.own_predictor
            predictors.sort(key=lambda each: (each.in_flight, each.address != own))
        return predictors

    def _predictor(self, address: str) -> _Predictor:
        predictor = self._predictors.get(address)
        if predictor is None:
            predictor = self._predictors[address] = _Predictor(address, self._settings)
        return predictor


class RemotePostprocess:
    """Finishes batches by calls to postprocess, a stage of its own."""

    def __init__(self, settings: Settings) -> None:
        self._limit_s = settings.postprocess_timeout_s
        self._upstream = Upstream.of_stage(settings, "postprocess", settings.postprocess, SERVICE, relays=False)

    async def __call__(self, batch: Predicted, call: Call) -> pb.ModelInferResponse:
        return await self._upstream.call("ModelInfer", request_of(batch), call, self._limit_s)

    async def reach(self) -> None:
        await self._upstream.reach()

    async def close(self) -> None:
        await self._upstream.close()


def request_of(batch: Predicted) -> pb.ModelInferRequest:
    """A batch as postprocess is sent it."""
    request = pb.ModelInferRequest(model_name=batch.model, model_version=batch.version)
    for name, value in batch.parameters.items():
        request.parameters[name].CopyFrom(encode_parameter(value))
    if batch.wanted != batch.plan.outputs:  # who names none gets all
        for name in batch.wanted:
            request.outputs.add(name=name)
    return encode_request(request, batch.outputs)
