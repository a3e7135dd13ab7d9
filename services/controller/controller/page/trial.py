"""One request through the chain, and the values after each of its steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tritonclient.grpc import service_pb2 as pb

from controller.page.form import Typed, request_of
from controller.placement.placement import Placement
from triptych.client.upstream import Upstream
from triptych.contract import Plan, Scalar
from triptych.contract.trace import Moment, trace
from triptych.datatypes import Array
from triptych.errors import TriptychError, Unavailable
from triptych.protocol.call import Call
from triptych.protocol.tensors import decode_response, encode_request

# The field of a request's parameter by its type in Python.
PARAMETER_FIELDS: Final = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


@dataclass
class Trial:
    """The result of a request: the answer or an error, and as many steps as ran."""

    inputs: Mapping[str, Array]
    parameters: Mapping[str, Scalar]
    answer: Mapping[str, Array] = field(default_factory=dict)
    version: str = ""
    seconds: float = 0.0
    error: str = ""
    moments: list[Moment] = field(default_factory=list)
    stopped: str = ""  # why the steps end early


class Trials:
    """Sends requests to preprocess, one at a time, and follows each through its steps with the same predictor."""

    def __init__(self, preprocess: Upstream, placement: Placement, timeout_s: float) -> None:
        self._preprocess, self._placement, self._timeout_s = preprocess, placement, timeout_s
        self._running = asyncio.Lock()

    async def run(self, model: str, version: int, typed: Typed) -> Trial:
        """Try one version. Raises `WrongForm`, and `Unavailable` while another request is tried."""
        if self._running.locked():
            raise Unavailable("another request is being tried; send the form again")
        async with self._running:
            plan = await self._placement.versions.plan_of((model, version))
            if plan is None:
                raise Unavailable(f"{model} version {version} is not in the catalog any more")
            inputs, parameters = await asyncio.to_thread(request_of, plan.contract, typed)
            trial = Trial(inputs, parameters)
            await self._ask(trial, model, version)
            await asyncio.to_thread(_follow, trial, plan, self._predict(model, version))
        return trial

    async def _ask(self, trial: Trial, model: str, version: int) -> None:
        """Fill in the answer of the chain, or its error."""
        request = request_message(model, version, trial.inputs, trial.parameters)
        start = time.perf_counter()
        try:
            response: pb.ModelInferResponse = await self._preprocess.call(
                "ModelInfer", request, Call.within(self._timeout_s)
            )
            trial.answer, trial.version = decode_response(response), response.model_version
        except TriptychError as error:
            trial.error = str(error)
        trial.seconds = time.perf_counter() - start

    def _predict(self, model: str, version: int) -> Callable[[Mapping[str, Array]], Mapping[str, Array]]:
        """The model on a predictor that has it ready, for a thread beside this loop."""
        loop = asyncio.get_running_loop()

        def predict(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
            return asyncio.run_coroutine_threadsafe(self._infer(model, version, tensors), loop).result()

        return predict

    async def _infer(self, model: str, version: int, tensors: Mapping[str, Array]) -> Mapping[str, Array]:
        holders = self._placement.fleet.holders((model, version))
        if not holders:
            raise Unavailable(f"no predictor has {model} version {version} loaded")
        return await holders[0].infer((model, version), tensors, self._timeout_s)


def request_message(
    model: str, version: int, inputs: Mapping[str, Array], parameters: Mapping[str, Scalar]
) -> pb.ModelInferRequest:
    """The request as a caller sends it."""
    request = encode_request(pb.ModelInferRequest(model_name=model, model_version=str(version)), inputs)
    for name, value in parameters.items():
        setattr(request.parameters[name], PARAMETER_FIELDS[type(value)], value)
    return request


def _follow(trial: Trial, plan: Plan, predict: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
    """Fill in the values after each step, as far as they go."""
    try:
        for moment in trace(plan, trial.inputs, trial.parameters, predict):
            trial.moments.append(moment)
    except TriptychError as error:
        trial.stopped = str(error)
