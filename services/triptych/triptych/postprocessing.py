"""The work of postprocess: outputs of a model to the answer. Postprocess does it, or preprocess in its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tritonclient.grpc import service_pb2 as pb

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidRequest
from triptych.protocol.tensors import Parameter, encode_parameter, encode_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics import StageMetrics, current


@dataclass(frozen=True, slots=True)
class Predicted:
    """A batch that a version of a model has answered.

    `outputs` are those of the contract and have passed `Plan.check_model_outputs`, `parameters` are what
    `Plan.check_parameters` made. `wanted` names the outputs of the answer.
    """

    model: str
    version: str
    plan: Plan
    outputs: Mapping[str, Array]
    parameters: Mapping[str, Parameter]
    wanted: Sequence[str]


class Postprocessor:
    """Makes the answer of a batch by its contract, off the event loop when the batch is large."""

    def __init__(
        self, metrics: StageMetrics, thread_pool: ThreadPool, in_flight_bytes: InFlightBytes, revision: str
    ) -> None:
        self._metrics, self._thread_pool, self._in_flight_bytes = metrics, thread_pool, in_flight_bytes
        self._revision = encode_parameter(revision)

    async def __call__(self, batch: Predicted, limit_s: float | None = None) -> pb.ModelInferResponse:
        """The answer, signed. Fills in the current request of the metrics.

        Raises `InvalidRequest` or `Overloaded`, and `TimeoutError` when work on a thread takes longer than `limit_s`.
        """
        plan, stopwatch = batch.plan, self._metrics.stopwatch()
        size_bytes = sum([array.nbytes for array in batch.outputs.values()])
        self._in_flight_bytes.take(size_bytes)
        try:
            work = partial(plan.postprocess, batch.outputs, batch.parameters)
            outputs = await self._thread_pool.run_within(work, size_bytes, limit_s)
        except ContractViolation as error:  # here the model's outputs are the caller's, so a fault is the caller's too
            raise InvalidRequest(str(error)) from error
        finally:
            self._in_flight_bytes.give(size_bytes)
        stopwatch.end("transform")
        about = current()
        about.parts, about.rows = stopwatch.parts, len(next(iter(outputs.values())))
        about.answers = plan.observed(outputs)
        answer = pb.ModelInferResponse(model_name=batch.model, model_version=batch.version)
        answer.parameters["triptych_postprocess_revision"].CopyFrom(self._revision)
        return encode_response(answer, {name: outputs[name] for name in batch.wanted})
