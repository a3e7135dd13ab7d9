"""The last step of a batch: by postprocess, a stage of its own, or by the same work within this process."""

from __future__ import annotations

from typing import Protocol

from tritonclient.grpc import service_pb2 as pb

from preprocess.settings import Settings
from triptych.errors import ContractViolation, DeadlineExceeded, Internal, InvalidRequest, Overloaded, TriptychError
from triptych.postprocessing import Postprocessor, Predicted
from triptych.protocol.call import Call
from triptych.protocol.status import status_of
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.thread_pool import ThreadPool
from triptych.telemetry.metrics import StageMetrics, current

WHERE = "postprocess in preprocess's process"  # in the place of an address, in sentences


class Finish(Protocol):
    """Makes the answer of a batch from the outputs of its model."""

    async def __call__(self, batch: Predicted, call: Call) -> pb.ModelInferResponse:
        """The answer to all rows, signed by postprocess. Raises `TriptychError`."""

    async def reach(self) -> None:
        """Returns once batches can be finished."""

    async def close(self) -> None:
        """Closes what is open to another process."""


class InProcessPostprocess:
    """Does the work of postprocess here. Limits, errors, metrics and the span are those of the separate stage.

    Large batches run on preprocess's own thread_pool.
    """

    def __init__(self, settings: Settings, metrics: StageMetrics, thread_pool: ThreadPool) -> None:
        self._metrics, self._limit_s = metrics, settings.postprocess_timeout_s
        self._postprocessor = Postprocessor(
            metrics, thread_pool, InFlightBytes(settings.max_bytes_in_flight), settings.revision
        )
        self._in_flight = 0
        metrics.watch(lambda: self._in_flight)

    async def __call__(self, batch: Predicted, call: Call) -> pb.ModelInferResponse:
        limit_s = call.remaining_s(self._limit_s)
        own = Call(call.deadline, call.metadata)  # counted when it ends, not when the caller's answer is written
        self._in_flight += 1
        try:
            with self._metrics.request(pb.ModelInferRequest(model_name=batch.model), own):
                current().known(batch.plan.contract.family, batch.model, batch.version)
                try:
                    return await self._postprocessor(batch, limit_s)
                except TimeoutError:
                    raise DeadlineExceeded(f"{WHERE} did not answer within {limit_s:.3f} s") from None
        except Exception as error:
            raise _as_from_the_stage(error) from error
        finally:
            self._in_flight -= 1

    async def reach(self) -> None:
        """There is nobody to wait for."""

    async def close(self) -> None:
        """The thread_pool belong to who made them."""


def _as_from_the_stage(error: Exception) -> TriptychError:
    """The error that a caller of the separate stage gets: see `Upstream` for the codes."""
    if isinstance(error, DeadlineExceeded):
        return error
    if isinstance(error, Overloaded):
        return Overloaded(f"{WHERE} is full: {error}")
    if isinstance(error, InvalidRequest):
        code = status_of(error)[0].name
        return ContractViolation(f"{WHERE} refused what the contract made: {code}: {error}")
    return Internal(f"{WHERE}: {type(error).__name__}: {error}")
