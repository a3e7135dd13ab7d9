"""The work of postprocess: from a model's outputs to the response. Preprocess does it too, in mode in-process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from tritonclient.grpc import service_pb2 as pb

from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, InvalidRequest
from triptych.protocol.parameters import Parameter, encode_parameter
from triptych.protocol.tensor_layout import LAYOUT_CACHE_SIZE
from triptych.protocol.tensors import encoded_response
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import ShortWork
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import current_request


@dataclass(slots=True)
class PredictedBatch:
    """A batch with the outputs that a version of a model has predicted.

    `outputs` are those of the contract, checked by `Plan.check_model_outputs`, then the values of preprocess that
    postprocess reads. `parameters` come from `Plan.check_parameters`. `output_names` are the outputs of the response.
    """

    model: str
    version: str
    plan: Plan
    outputs: Mapping[str, Array]
    parameters: Mapping[str, Parameter]
    output_names: Sequence[str]


class Postprocessor:
    """Makes the response to a batch by its contract, in a thread if that takes long."""

    def __init__(self, metrics: StageMetrics, work: ShortWork, in_flight_bytes: InFlightBytes, revision: str) -> None:
        self._metrics, self._work, self._in_flight_bytes = metrics, work, in_flight_bytes
        self._revision = revision

    async def __call__(self, batch: PredictedBatch, limit_s: float | None = None) -> pb.ModelInferResponse:
        """Returns the response with this stage's revision. Fills in the current request of the metrics.

        Raises `InvalidRequest` or `Overloaded`, and `TimeoutError` if work in a thread takes longer than `limit_s`.
        """
        plan, stopwatch = batch.plan, self._metrics.stopwatch()
        enlarged_bytes, work = plan.enlarged_bytes(batch.outputs), self._work
        size_bytes = sum([array.nbytes for array in batch.outputs.values()]) + enlarged_bytes
        work_id = None if enlarged_bytes else id(plan)
        self._in_flight_bytes.acquire(size_bytes)
        try:
            if size_bytes <= work.inline_bytes:
                outputs = plan.postprocess(batch.outputs, batch.parameters)
            elif work.is_short(size_bytes, work_id):
                outputs = work.run_here(size_bytes, work_id, plan.postprocess, batch.outputs, batch.parameters)
            else:
                finish = partial(plan.postprocess, batch.outputs, batch.parameters)
                outputs = await work.run_in_thread(size_bytes, work_id, finish, limit_s)
        except ContractViolation as error:  # the caller sent the model's outputs, so the fault is the caller's
            raise InvalidRequest(str(error)) from error
        finally:
            self._in_flight_bytes.release(size_bytes)
        stopwatch.end("transform")
        record = current_request()
        record.parts, record.rows = stopwatch.parts, len(next(iter(outputs.values())))
        record.answers = plan.observed(outputs)
        head = _response_head(batch.model, batch.version, self._revision)
        data = encoded_response(head, {name: outputs[name] for name in batch.output_names})
        return pb.ModelInferResponse.FromString(data)


@lru_cache(LAYOUT_CACHE_SIZE)
def _response_head(model: str, version: str, revision: str) -> bytes:
    """An encoded response without tensors."""
    parameters = {"triptych_postprocess_revision": encode_parameter(revision)}
    head: bytes = pb.ModelInferResponse(
        model_name=model, model_version=version, parameters=parameters
    ).SerializeToString()
    return head
