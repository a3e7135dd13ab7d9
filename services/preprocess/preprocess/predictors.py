"""Calls to Triton, and to the controller for a load."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence

from tritonclient.grpc import service_pb2 as pb

from preprocess.catalog import Target
from preprocess.settings import Settings
from triptych.client.transport import Transport
from triptych.client.triton_errors import inference_error
from triptych.client.upstream import InFlightInferences, Upstream
from triptych.datatypes import Array
from triptych.errors import DeadlineExceeded, ModelFailing, NotLoaded, Overloaded, StageUnavailable, Unavailable
from triptych.protocol import controller_pb2 as cp
from triptych.protocol.call import Call
from triptych.protocol.tensors import encoded_request, request_head
from triptych.server.inference_servicer import SERVICE

MAX_LOADS = 3  # for one request: a Triton may die just after it has loaded
MAX_FAILING = 2  # predictors on which a request finds that the model cannot run, before the controller is asked
UNUSED_S = 300.0  # without a call, until a channel may be closed


class _Predictor:
    """The channel to one Triton, and its calls in flight."""

    def __init__(self, address: str, settings: Settings, transport: Transport) -> None:
        self.upstream = Upstream(
            "predictor",
            address,
            SERVICE,
            relays=False,
            transport=transport,
            translate=inference_error,
        )
        self.address = address
        self._inferences = InFlightInferences(self.upstream)
        self._max_in_flight, self._limit_s = settings.max_in_flight, settings.predict_timeout_s

    @property
    def in_flight(self) -> int:
        """Calls that Triton has not answered, abandoned ones among them."""
        return len(self._inferences)

    def infer(self, request: bytes, call: Call) -> Awaitable[pb.ModelInferResponse]:
        """Raises what `InFlightInferences.infer` raises, and `Overloaded` when too many calls are in flight."""
        if self.in_flight >= self._max_in_flight:
            raise Overloaded(f"predictor at {self.address} has {self.in_flight} calls to answer, the limit; try later")
        return self._inferences.infer(request, call, self._limit_s)

    @property
    def has_abandoned(self) -> bool:
        """Whether Triton works on calls that nobody waits for."""
        return self._inferences.abandoned > 0

    @property
    def is_unused(self) -> bool:
        return not self._inferences and time.monotonic() - self._inferences.ended_s > UNUSED_S


class Predictors:
    """One channel to each predictor that the placement has named. `controller` loads models that none of them has."""

    def __init__(self, settings: Settings, controller: Upstream, transport: Transport) -> None:
        self._settings, self._controller, self._transport = settings, controller, transport
        self._predictors: dict[str, _Predictor] = {}

    async def predict(self, target: Target, tensors: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        """Returns the model's outputs. Asks for a load when no predictor has the model, and again when it is gone.

        If the model cannot run, the request is tried on two predictors, and once more after a report to the controller:
        the request itself may be what ends the model's process.
        """
        request = encoded_request(request_head(target.model, str(target.version)), tensors)
        failing: list[str] = []
        if answer := await self._infer(target.predictors, request, call, failing, MAX_FAILING):
            return answer
        for _ in range(MAX_LOADS):
            known = len(failing)
            predictors = await self._load(target, call, failing)
            if answer := await self._infer(predictors, request, call, failing, known + 1):
                return answer
            if len(failing) > known:
                raise ModelFailing(f"version {target.version} of model '{target.model}' cannot run now; try again")
        raise Unavailable(f"model '{target.model}' was loaded {MAX_LOADS} times and gone again each time; try again")

    def has_abandoned(self, target: Target) -> bool:
        """Whether a predictor that has the version works on abandoned calls."""
        for address in target.predictors:
            predictor = self._predictors.get(address)
            if predictor is not None and predictor.has_abandoned:
                return True
        return False

    async def close(self) -> None:
        for predictor in self._predictors.values():
            await predictor.upstream.close()

    async def _load(self, target: Target, call: Call, failing: Sequence[str]) -> Sequence[str]:
        request = cp.EnsureLoadedRequest(model=target.model, version=target.version, failing=failing)
        reply: cp.EnsureLoadedReply = await self._controller.call("EnsureLoaded", request, call)
        for gone in [address for address, each in self._predictors.items() if each.is_unused]:
            await self._predictors.pop(gone).upstream.close()
        return reply.predictors

    async def _infer(
        self, addresses: Sequence[str], request: bytes, call: Call, failing: list[str], most: int
    ) -> pb.ModelInferResponse | None:
        """Returns the answer of one of these predictors, the least busy first; of equals that of the own pod.

        None if none of them has the model. A call is idempotent, so the next predictor is tried after one that died or
        did not answer. `failing` gathers the predictors where the model cannot run, up to `most`.
        """
        slow: DeadlineExceeded | None = None
        for predictor in self._ranked(addresses):
            try:
                return await predictor.infer(request, call)
            except (StageUnavailable, NotLoaded):  # the placement is behind
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
            predictor = self._predictors[address] = _Predictor(address, self._settings, self._transport)
        return predictor
