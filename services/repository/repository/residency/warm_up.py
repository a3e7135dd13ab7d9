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

from tritonclient.grpc import model_config_pb2 as mc

from repository.metrics import RepositoryMetrics
from repository.residency.limits import Limits
from repository.residency.pod import Pod
from repository.residency.usage import Key
from triptych.call import Call
from triptych.contract import Contract, Plan
from triptych.contract.trial import made_up_inputs, made_up_tensors
from triptych.datatypes import Array, describe_array
from triptych.errors import (
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    LoadFailed,
    NotThere,
    Overloaded,
    StageUnavailable,
    TriptychError,
    Unavailable,
)

log = logging.getLogger(__name__)

MAX_REASON: Final = 1000  # a refusal travels in HTTP/2 trailers, which clients limit to 8 KiB
MAX_BYTES: Final = 16 << 20  # of a request of several rows; two rows are sent in any case
_PATH: Final = re.compile(r"(?:/[\w.@+-]+)+/([\w.@+-]+)")


class _Refused(Exception):
    """Triton answered made-up rows with an error, in its own words."""


class WarmUp:
    """Sends made-up rows to one version on one Triton. Nothing of it is kept between two calls."""

    def __init__(self, limits: Limits, metrics: RepositoryMetrics) -> None:
        self._limits, self._metrics = limits, metrics

    async def check(self, key: Key, pod: Pod, contract: Contract, config: mc.ModelConfig) -> None:
        """Raises `LoadFailed` when the version does not answer as its contract says.

        Raises `Unavailable` or `DeadlineExceeded` when the Triton is gone or too busy, which is not the model's fault.
        """
        start, outcome, reason = time.perf_counter(), "unavailable", ""
        try:
            reason = await self._check(key, pod, contract, config)
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
            facts = {"model": key[0], "version": key[1], "predictor": pod.address, "outcome": outcome, "reason": reason}
            level = logging.INFO if outcome == "ok" else logging.WARNING
            log.log(level, "warm-up", extra={k: v for k, v in facts.items() if v} | {"seconds": round(seconds, 4)})

    async def _check(self, key: Key, pod: Pod, contract: Contract, config: mc.ModelConfig) -> str:
        """Why the warm-up says nothing about the model; empty when it has passed."""
        call, plan, answered = Call.within(self._limits.warm_up_timeout_s), Plan(contract), ""
        rows, most = 1, self._limits.warm_up_rows
        most = min(most, config.max_batch_size or contract.max_rows)
        while True:
            tensors, plausible = await asyncio.to_thread(_model_inputs, plan, rows)
            try:
                outputs = await self._infer(key, pod, tensors, call)
                await asyncio.to_thread(_check_outputs, plan, outputs, rows)
            except _Refused as error:
                text = f"want {_described(contract, tensors)}, Triton answers: {error}{answered}"
                if not plausible:
                    return f"made-up rows may be none for this model: {text}"[:MAX_REASON]
                raise _failed(key, text) from error
            except (Internal, InvalidRequest) as error:
                raise _failed(key, f"{rows} made-up row{'s' * (rows > 1)}: {error}{answered}") from error
            several = min(most, max(2, MAX_BYTES // max(1, sum(array.nbytes for array in tensors.values()))))
            if rows > 1 or several < 2:
                return ""
            rows, answered = several, f"; one row is answered, {several} are not: is the first dimension fixed?"

    async def _infer(self, key: Key, pod: Pod, tensors: Mapping[str, Array], call: Call) -> dict[str, Array]:
        """Raises `_Refused` for what is the model's own doing."""
        try:
            return await pod.infer(key, tensors, call.remaining_s())
        except NotThere as error:
            raise Unavailable(f"{key[0]} was loaded and is gone again: {error}") from error
        except StageUnavailable as error:
            await pod.refresh()
            raise Unavailable(str(error)) if pod.answers else error from error
        except Overloaded:
            raise
        except Internal as error:
            raise _Refused(_tidy(error.details)) from error
        except DeadlineExceeded as error:
            await pod.refresh()
            if pod.blind or not pod.answers:  # it answers nobody at this moment
                raise
            raise _Refused(f"nothing within {self._limits.warm_up_timeout_s:g} s, the limit of a warm-up") from error


def _model_inputs(plan: Plan, rows: int) -> tuple[dict[str, Array], bool]:
    """What preprocess makes of made-up rows, and whether a model that refuses it is at fault.

    Nobody can make up text, pictures, or a size that the contract leaves open.
    """
    contract = plan.contract
    known = all(spec.datatype != "BYTES" and -1 not in spec.shape[1:] for spec in contract.model.inputs)
    try:
        return plan.preprocess(made_up_inputs(contract, rows)), known
    except TriptychError:
        return made_up_tensors(contract.model.inputs, rows), False


def _check_outputs(plan: Plan, outputs: Mapping[str, Array], rows: int) -> None:
    plan.check_model_outputs(outputs, rows)
    plan.postprocess(outputs, plan.check_parameters({}))


def _failed(key: Key, text: str) -> LoadFailed:
    return LoadFailed(key[0], f"version {key[1]} fails its warm-up: {text}"[:MAX_REASON])


def _described(contract: Contract, tensors: Mapping[str, Array]) -> str:
    """`input 'x' FP32[n,4], sent FP32[1,4]` for each input of the model."""
    named = [f"input '{s.name}' {s.text}, sent {describe_array(tensors[s.name])}" for s in contract.model.inputs]
    return "; ".join(named)


def _tidy(text: str) -> str:
    """One line; of a path, which is the Triton's own, the last part."""
    return _PATH.sub(r"\1", " ".join(text.split()))
