"""A request's path through preprocess: admission, preparation of a large one, and a batch."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from preprocess.background import POLL_S, BackgroundKey, BackgroundSlots
from preprocess.batch_executor import BatchExecutor
from preprocess.batching import Batcher, BatchKey, BatchLimits
from preprocess.inference import InferenceRequest, InferenceResult
from preprocess.predictors import Predictors
from preprocess.settings import Settings
from preprocess.slots import Slots
from preprocess.transform import Transform
from triptych.errors import DeadlineExceeded
from triptych.runtime.first_step import time_limit
from triptych.runtime.in_flight import InFlightBytes

MAX_PLACEMENTS = 1024  # sets of predictors whose slots are kept while nothing uses them


class Pipeline:
    """Answers requests, alone or in batches of one version's requests."""

    def __init__(
        self, settings: Settings, transform: Transform, predictors: Predictors, executor: BatchExecutor
    ) -> None:
        self._settings, self._transform, self._predictors = settings, transform, predictors
        self._inline_bytes, self._max_wait_share = settings.inline_bytes, settings.max_wait_share
        self._batcher = Batcher[InferenceRequest, InferenceResult](executor.execute, self._limits)
        self._preparing: Counter[tuple[str, int, bool]] = Counter()  # large requests by `_batch_group`
        self._in_flight_bytes = InFlightBytes(settings.max_bytes_in_flight)
        self._background_bytes = InFlightBytes(int(settings.background_share * settings.max_bytes_in_flight))
        self._background = BackgroundSlots(
            settings.background_batches, settings.predict_timeout_s, lambda: self._batcher.has_waiting(_is_online)
        )
        # By number of predictors, rows of the contract, and slots.
        self._limits_of: dict[tuple[int, int, Slots | None], BatchLimits] = {}
        self._slots_of: dict[tuple[str, ...], Slots] = {}  # by predictors

    async def infer(self, request: InferenceRequest) -> InferenceResult:
        """Raises `Overloaded` over a limit, and the errors of the contract, Triton and postprocess."""
        if not request.is_background:
            return await self._infer(request)
        self._background_bytes.acquire(request.size_bytes)
        try:
            return await self._infer(request)
        finally:
            self._background_bytes.release(request.size_bytes)

    async def _infer(self, request: InferenceRequest) -> InferenceResult:
        size_bytes = request.size_bytes
        self._in_flight_bytes.acquire(size_bytes)
        try:
            work_bytes = self._work_bytes(request)
            if request.rows and self._transform.is_short(request.plan, work_bytes):
                return await self._submit(request)
            return await self._infer_large(request, work_bytes)
        finally:
            self._in_flight_bytes.release(size_bytes)

    def _work_bytes(self, request: InferenceRequest) -> int:
        """Bytes of the request, its pictures unpacked. In a large request even reading headers can take seconds."""
        if request.size_bytes <= self._inline_bytes and request.plan.unpacks:
            return request.size_bytes + request.plan.unpacked_bytes(request.tensors.arrays())
        return request.size_bytes

    async def _infer_large(self, request: InferenceRequest, work_bytes: int) -> InferenceResult:
        """Prepares the request before it joins a batch, beside others: Triton never waits for its pictures."""
        started_s = time.monotonic()
        prepared, made_bytes = await self._prepare(request, work_bytes)
        self._in_flight_bytes.acquire_unchecked(made_bytes)
        try:
            prepared_s = time.monotonic() - started_s
            result = await self._submit(prepared, self._linger_s(request, prepared_s))
        finally:
            self._in_flight_bytes.release(made_bytes)
        return result.with_earlier("transform", prepared_s)

    async def _prepare(self, request: InferenceRequest, work_bytes: int) -> tuple[InferenceRequest, int]:
        """Returns the request with the model's inputs, and how many bytes these are."""
        call, version = request.call, _batch_group(request)
        call.check_wait_budget(self._transform.wait_s, self._max_wait_share, "a thread that prepares it")
        self._preparing[version] += 1
        try:
            async with time_limit(call.remaining_s()):
                while request.is_background and not self._has_idle_thread():
                    await asyncio.sleep(POLL_S)
                model_inputs = await self._transform(request.plan, request.tensors.arrays(), work_bytes)
        except TimeoutError:
            raise DeadlineExceeded("the request was not prepared within the time of the call") from None
        finally:
            self._preparing[version] -= 1
            if not self._preparing[version]:
                del self._preparing[version]
        return request.prepared(model_inputs), sum([array.nbytes for array in model_inputs.values()])

    def _has_idle_thread(self) -> bool:
        """Whether a background request may take a thread: nobody else waits, and one more is left for the next."""
        return self._transform.has_idle_thread and not self._batcher.has_waiting(_is_online)

    def _linger_s(self, request: InferenceRequest, prepared_s: float) -> float:
        """Time to wait for requests of the version in preparation: as long again as the preparation, by default."""
        if not self._preparing[_batch_group(request)]:
            return 0.0
        settings = self._settings
        return min(prepared_s * settings.batch_linger_share, request.call.remaining_s() * settings.max_wait_share)

    async def _submit(self, request: InferenceRequest, linger_s: float = 0.0) -> InferenceResult:
        key, call, target = request.batch_key, request.call, request.target
        if wait_s := self._batcher.expected_wait_s(key, request):
            call.check_wait_budget(wait_s, self._max_wait_share, f"model '{target.model}'")
        detached = self._predictors.has_abandoned(target)
        return await self._batcher.submit(key, request, call.remaining_s(), linger_s, detached)

    def _limits(self, request: InferenceRequest) -> BatchLimits:
        predictors = request.target.predictors
        slots = self._background if request.is_background else self._slots(predictors)
        key = max(1, len(predictors)), request.plan.contract.max_rows, slots
        limits = self._limits_of.get(key)
        if limits is None:
            number, max_rows, slots = key
            settings = self._settings
            limits = self._limits_of[key] = BatchLimits(
                max_in_flight=settings.max_in_flight_batches * number,
                max_wait_s=settings.batch_max_wait_s,
                max_rows=max_rows,
                max_bytes=settings.max_batch_bytes,
                slots=slots,
            )
        return limits

    def _slots(self, predictors: tuple[str, ...]) -> Slots | None:
        """Slots of the batches for these predictors. A version that is not loaded needs none: it waits for the load."""
        settings = self._settings
        if not predictors or not settings.predictor_batches:
            return None
        slots = self._slots_of.get(predictors)
        if slots is None:
            if len(self._slots_of) >= MAX_PLACEMENTS:
                self._limits_of.clear()
                self._slots_of = {known: each for known, each in self._slots_of.items() if not each.is_idle}
            slots = Slots(settings.predictor_batches * len(predictors), settings.batch_slot_s)
            self._slots_of[predictors] = slots
        return slots


def _batch_group(request: InferenceRequest) -> tuple[str, int, bool]:
    """Model, version and whether it is in the background: requests that may be in one batch."""
    return request.target.model, request.target.version, request.is_background


def _is_online(key: BatchKey) -> bool:
    return not isinstance(key, BackgroundKey)
