"""The last step of a batch: a call to postprocess, or the same work within this process."""

from __future__ import annotations

from typing import Protocol

from tritonclient.grpc import service_pb2 as pb

from preprocess.settings import Settings
from triptych.client.transport import Transport
from triptych.client.upstream import Upstream
from triptych.errors import ContractViolation, DeadlineExceeded, Internal, InvalidRequest, Overloaded, TriptychError
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.parameters import encode_parameter
from triptych.protocol.status import status_of
from triptych.protocol.tensors import encoded_request, request_head
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import ShortWork
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.request_record import current_request
from triptych.telemetry.request_scope import RequestScope

WHERE = "postprocess in preprocess's process"  # in place of an address, in errors


class Postprocess(Protocol):
    """Makes the response to a batch from the outputs of its model."""

    async def __call__(self, batch: PredictedBatch, call: Call) -> pb.ModelInferResponse:
        """The response to all rows, with postprocess's revision. Raises `TriptychError`."""

    async def reach(self) -> None:
        """Returns once batches can be postprocessed."""

    async def close(self) -> None:
        """Closes connections to another process."""


class RemotePostprocess:
    """Calls the stage postprocess."""

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self._limit_s = settings.postprocess_timeout_s
        self._upstream = Upstream.of_stage(
            settings, "postprocess", settings.postprocess, SERVICE, relays=False, transport=transport
        )

    async def __call__(self, batch: PredictedBatch, call: Call) -> pb.ModelInferResponse:
        return await self._upstream.call("ModelInfer", postprocess_request(batch), call, self._limit_s)

    async def reach(self) -> None:
        await self._upstream.reach()

    async def close(self) -> None:
        await self._upstream.close()


def postprocess_request(batch: PredictedBatch) -> bytes:
    """The encoded message that postprocess gets for a batch."""
    head = request_head(batch.model, batch.version)
    if batch.parameters or batch.output_names != batch.plan.outputs:
        head += _details(batch)
    return encoded_request(head, batch.outputs)


def _details(batch: PredictedBatch) -> bytes:
    """Parameters and names of outputs, encoded. A request that names no outputs gets all."""
    request = pb.ModelInferRequest()
    for name, value in batch.parameters.items():
        request.parameters[name].CopyFrom(encode_parameter(value))
    if batch.output_names != batch.plan.outputs:
        for name in batch.output_names:
            request.outputs.add(name=name)
    encoded: bytes = request.SerializeToString()
    return encoded


class InProcessPostprocess:
    """Does the work of postprocess here. Limits, errors, metrics and the span are those of the separate stage.

    Large batches run on preprocess's own thread pool.
    """

    def __init__(self, settings: Settings, metrics: StageMetrics, work: ShortWork) -> None:
        self._metrics, self._limit_s = metrics, settings.postprocess_timeout_s
        self._postprocessor = Postprocessor(
            metrics, work, InFlightBytes(settings.max_bytes_in_flight), settings.revision
        )
        self._in_flight = 0
        metrics.watch_in_flight(lambda: self._in_flight)

    async def __call__(self, batch: PredictedBatch, call: Call) -> pb.ModelInferResponse:
        limit_s = call.remaining_s(self._limit_s)
        own = Call(call.deadline, call.metadata)  # counted when the work ends, not when the caller's answer is written
        self._in_flight += 1
        try:
            with RequestScope(self._metrics, pb.ModelInferRequest(model_name=batch.model), own):
                current_request().identify(batch.plan.contract.family, batch.model, batch.version)
                try:
                    return await self._postprocessor(batch, limit_s)
                except TimeoutError:
                    raise DeadlineExceeded(f"{WHERE} did not answer within {limit_s:.3f} s") from None
        except Exception as error:
            raise _upstream_error(error) from error
        finally:
            self._in_flight -= 1

    async def reach(self) -> None:
        """Returns at once: there is no other process."""

    async def close(self) -> None:
        """Does nothing: the thread pool is closed by its owner."""


def _upstream_error(error: Exception) -> TriptychError:
    """The error that a caller of the separate stage gets. `Upstream` has the codes."""
    if isinstance(error, DeadlineExceeded):
        return error
    if isinstance(error, Overloaded):
        return Overloaded(f"{WHERE} is full: {error}")
    if isinstance(error, InvalidRequest):
        code = status_of(error)[0].name
        return ContractViolation(f"{WHERE} refused what the contract made: {code}: {error}")
    return Internal(f"{WHERE}: {type(error).__name__}: {error}")
