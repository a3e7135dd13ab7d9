"""The warm-up: a version that a Triton has just loaded answers made-up rows there before it takes requests.

One row and then several go through the very Triton, for a file may be good for one row alone. The rows are made from
the contract, the outputs pass the contract's checks and its postprocess steps, as those of a request do.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Mapping
from typing import Final

import numpy as np
from tritonclient.grpc import model_config_pb2 as mc

from controller.metrics import ControllerMetrics
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.refusals import MAX_REASON
from controller.placement.settings import PlacementSettings
from triptych.client.triton_errors import inference_error
from triptych.contract import Contract, Plan, Scalar
from triptych.contract.schema.examples import Example, arrays_of, mismatch
from triptych.contract.verification.trial import made_up_inputs, made_up_tensors
from triptych.datatypes import FLOATS, Array, describe_array
from triptych.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    LoadFailed,
    NotLoaded,
    Overloaded,
    StageUnavailable,
    TriptychError,
    Unavailable,
)
from triptych.protocol.call import Call

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 << 20  # of a request of several rows; two rows are sent in any case
_PATH: Final = re.compile(r"(?:/[\w.@+-]+)+/([\w.@+-]+)")


class _RowsRefused(Exception):
    """Triton answered made-up rows with an error, which is the message."""


class WarmUp:
    """Sends made-up rows to one version on one predictor. Keeps no state between two calls."""

    def __init__(self, settings: PlacementSettings, metrics: ControllerMetrics) -> None:
        self._settings, self._metrics = settings, metrics

    async def check(self, key: VersionKey, predictor: Predictor, plan: Plan, config: mc.ModelConfig) -> None:
        """Raises `LoadFailed` when the version does not answer as its contract says.

        Raises `Unavailable` or `DeadlineExceeded` if the predictor is gone or too busy, which is not the model's fault.
        """
        start, outcome, reason = time.perf_counter(), "unavailable", ""
        try:
            reason = await self._check(key, predictor, plan, config)
            outcome = "unclear" if reason else "ok"
        except LoadFailed as error:
            outcome, reason = "failed", error.reason
            raise
        except TriptychError as error:
            reason = str(error)
            raise
        finally:
            seconds = time.perf_counter() - start
            self._metrics.warm_ups.labels(outcome).inc()
            self._metrics.warm_up_seconds.observe(seconds)
            facts = {
                "model": key[0],
                "version": key[1],
                "predictor": predictor.address,
                "outcome": outcome,
                "reason": reason,
            }
            level = logging.INFO if outcome == "ok" else logging.WARNING
            log.log(level, "warm-up", extra={k: v for k, v in facts.items() if v} | {"seconds": round(seconds, 4)})

    async def _check(self, key: VersionKey, predictor: Predictor, plan: Plan, config: mc.ModelConfig) -> str:
        """Why the warm-up proves nothing about the model; empty when it has passed."""
        call, contract = Call.within(self._settings.warm_up_timeout_s), plan.contract
        most = min(self._settings.warm_up_rows, config.max_batch_size or contract.max_rows)
        unclear = await self._send_made_up(key, predictor, plan, 1, call)
        several = min(most, max(2, MAX_BYTES // _row_bytes(contract)))
        if several > 1 and not unclear:
            answered = f"; one row is answered, {several} are not: is the dimension of the rows fixed?"
            unclear = await self._send_made_up(key, predictor, plan, several, call, answered)
        for example in contract.examples or ():
            await self._send_example(key, predictor, plan, example, call)
            unclear = ""
        return unclear

    async def _send_made_up(
        self, key: VersionKey, predictor: Predictor, plan: Plan, rows: int, call: Call, answered: str = ""
    ) -> str:
        """Why the answer proves nothing; empty when it is good."""
        tensors, plausible = await asyncio.to_thread(made_up_values, plan, rows)
        sent = f"{rows} made-up row{'s' * (rows > 1)}"
        try:
            outputs = plan.predicted(await self._infer(key, predictor, plan.model_inputs(tensors), call), rows)
        except _RowsRefused as error:
            text = f"want {_described(plan.contract, tensors)}, Triton answers: {error}{answered}"
        except (Internal, InvalidRequest) as error:
            raise _failed(key, f"{sent}: {error}{answered}") from error
        else:
            text = await asyncio.to_thread(_bad_values, plan, outputs)
            text = text and f"{sent}: {text}{answered}"
        if text and plausible:
            raise _failed(key, text)
        return text and f"made-up rows may be none for this model: {text}"[:MAX_REASON]

    async def _send_example(
        self, key: VersionKey, predictor: Predictor, plan: Plan, example: Example, call: Call
    ) -> None:
        what = f"example '{example.name}'"
        try:
            sent = arrays_of(plan.contract.inputs, example.inputs)
            rows, tensors = plan.check_inputs(sent), await asyncio.to_thread(plan.preprocess, sent)
            outputs = await self._infer(key, predictor, plan.model_inputs(tensors), call)
            answer = await asyncio.to_thread(_answer, plan, outputs, tensors, rows, example.parameters)
        except _RowsRefused as error:
            raise _failed(key, f"{what}: Triton answers: {error}") from error
        except (Internal, InvalidRequest) as error:
            raise _failed(key, f"{what}: {error}") from error
        if difference := mismatch(plan.contract.outputs, example, answer):
            raise _failed(key, f"{what}: {difference}")

    async def _infer(
        self, key: VersionKey, predictor: Predictor, tensors: Mapping[str, Array], call: Call
    ) -> dict[str, Array]:
        """Raises `_RowsRefused` for a fault of the model itself."""
        try:
            return await predictor.infer(key, tensors, call.remaining_s())
        except NotLoaded as error:
            raise Unavailable(f"{key[0]} was loaded and is gone again: {error}") from error
        except StageUnavailable as error:
            await predictor.refresh()
            raise Unavailable(str(error)) if predictor.available else error from error
        except Overloaded:
            raise
        except Internal as error:
            if isinstance(meaning := inference_error("predictor", predictor.address, error.details), Overloaded):
                raise meaning from error
            raise _RowsRefused(_tidy(error.details)) from error
        except DeadlineExceeded as error:
            await predictor.refresh()
            if predictor.stale or not predictor.available:  # it answers nobody at this moment
                raise
            raise _RowsRefused(
                f"nothing within {self._settings.warm_up_timeout_s:g} s, the limit of a warm-up"
            ) from error


def made_up_values(plan: Plan, rows: int) -> tuple[dict[str, Array], bool]:
    """Results of preprocess for made-up rows, and whether a model that refuses them is at fault.

    Text, pictures and open sizes cannot be made up. If preprocess refuses the rows, only the model's inputs are there.
    """
    contract = plan.contract
    known = all(spec.datatype != "BYTES" and -1 not in spec.shape[1:] for spec in contract.model.inputs)
    try:
        return plan.preprocess(made_up_inputs(contract, rows)), known
    except TriptychError:
        return made_up_tensors(contract.model.inputs, rows), False


def _row_bytes(contract: Contract) -> int:
    """Bytes of one row of the model's inputs."""
    return max(1, sum(array.nbytes for array in made_up_tensors(contract.model.inputs, 1).values()))


def _answer(
    plan: Plan,
    outputs: Mapping[str, Array],
    values: Mapping[str, Array],
    rows: int,
    parameters: Mapping[str, Scalar],
) -> dict[str, Array]:
    """The answer to what the model made of `values`, those of preprocess. Raises `ContractViolation`."""
    results = plan.predicted(outputs, rows) | plan.carried_values(values)
    return plan.postprocess(results, plan.check_parameters(parameters))


def _bad_values(plan: Plan, outputs: Mapping[str, Array]) -> str:
    """The fault of values with the right shapes: they are not finite, or postprocess cannot take them.

    Postprocess that reads values of preprocess may refuse made-up ones, so it is left to the examples.
    """
    for spec in plan.contract.model.outputs:
        if spec.datatype in FLOATS and spec.finite is not False and not np.isfinite(outputs[spec.name]).all():
            return f"model output '{spec.name}': want finite values, got NaN or infinity (`finite: false` allows them)"
    if plan.carried:
        return ""
    try:
        plan.postprocess(outputs, plan.check_parameters({}))
    except (Internal, InvalidRequest) as error:
        return str(error)
    return ""


def _failed(key: VersionKey, text: str) -> LoadFailed:
    return LoadFailed(key[0], f"version {key[1]} fails its warm-up: {text}"[:MAX_REASON])


def _described(contract: Contract, tensors: Mapping[str, Array]) -> str:
    """`input 'x' FP32[n,4], sent FP32[1,4]` for each input of the model."""
    named = [f"input '{s.name}' {s.text}, sent {describe_array(tensors[s.name])}" for s in contract.model.inputs]
    return "; ".join(named)


def _tidy(text: str) -> str:
    """One line; of Triton's own paths only the last part."""
    return _PATH.sub(r"\1", " ".join(text.split()))
