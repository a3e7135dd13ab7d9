"""A group's way through the chain: check and prepare, predict, postprocess, and to each request its rows."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from preprocess.batching import Batcher, Limits, Pending
from preprocess.catalog import Target
from preprocess.finish import Finish
from preprocess.settings import Settings
from preprocess.transform import Transform
from preprocess.upstream import Upstreams
from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.errors import ContractViolation, DeadlineExceeded, TriptychError
from triptych.postprocessing import Predicted
from triptych.protocol.call import Call
from triptych.protocol.status import status_of
from triptych.protocol.tensors import Parameter, Tensors, decode_response, encode_parameter, joined, response_tensors
from triptych.runtime.in_flight import InFlightBytes
from triptych.telemetry.metrics import StageMetrics, Stopwatch

# What one member's contents can be the cause of: the others of its group are then tried without it.
BY_CONTENT = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL})


@dataclass(slots=True)
class Member:
    """One request: what it sends and wants, by when, and the version that is to answer it.

    `sent` are the caller's tensors, `prepared` the model's where that was done before the request joined others.
    `held_bytes` is the room that both take. `parts` are the seconds of each part, once it is answered.
    """

    id: str
    target: Target
    plan: Plan
    call: Call
    sent: Tensors
    parameters: Mapping[str, Parameter]
    wanted: Sequence[str]
    rows: int = 0
    held_bytes: int = 0
    prepared: Mapping[str, Array] | None = None
    parts: dict[str, float] = field(init=False, repr=False)

    @property
    def kind(self) -> Hashable:
        """Requests of the same kind may go together: they want the same of one version, and differ in rows alone."""
        tensors: tuple[Hashable, ...] = self.sent.alike
        if self.prepared is not None:
            tensors = tuple([(name, array.dtype, array.shape[1:]) for name, array in self.prepared.items()])
        asked = tuple(self.parameters.items())
        return self.target.model, self.target.version, tensors, tuple(self.wanted), asked


Group = Sequence[Pending[Member, pb.ModelInferResponse]]


class Chain:
    """Answers requests in groups: a group is one call to one version of a model, and one to postprocess."""

    def __init__(
        self, settings: Settings, metrics: StageMetrics, transform: Transform, upstreams: Upstreams, finish: Finish
    ) -> None:
        self._settings, self._metrics, self._transform, self._upstreams = settings, metrics, transform, upstreams
        self._finish = finish
        self._revision = encode_parameter(settings.revision)
        self._batcher = Batcher[Member, pb.ModelInferResponse](self._answer, self._limits)
        self._preparing: Counter[tuple[str, int]] = Counter()  # large requests by model and version
        self._in_flight_bytes = InFlightBytes(settings.max_bytes_in_flight)

    async def __call__(self, member: Member) -> pb.ModelInferResponse:
        """The answer to one request, in whatever company it travels. Raises `Overloaded` when there is no room."""
        size = member.held_bytes = member.sent.size_bytes
        self._in_flight_bytes.take(size)
        try:
            return await self._travel(member, size)
        finally:
            self._in_flight_bytes.give(member.held_bytes)

    async def _travel(self, member: Member, size: int) -> pb.ModelInferResponse:
        """A large request is prepared before it joins, beside others: Triton never waits for its pictures."""
        member.rows = member.sent.rows
        prepared_s = patience_s = 0.0
        work_bytes = size
        if size <= self._settings.inline_bytes and member.plan.unpacks:  # in a large one even headers can take seconds
            work_bytes += member.plan.unpacked_bytes(member.sent.arrays())
        if work_bytes > self._settings.inline_bytes or not member.rows:
            prepared_s = await self._prepare(member, work_bytes)
            patience_s = self._patience_s(member, prepared_s)
        kind = member.kind
        if wait_s := self._batcher.wait_s(kind):
            member.call.check_wait_budget(wait_s, self._settings.max_wait_share, f"model '{member.target.model}'")
        left_s, detached = member.call.remaining_s(), self._upstreams.has_abandoned(member.target)
        answer = await self._batcher.submit(kind, member, member.rows, size, left_s, patience_s, detached)
        member.parts["transform"] += prepared_s
        return answer

    def _patience_s(self, member: Member, prepared_s: float) -> float:
        """How long a request waits for those of its version that are being prepared: as long again, where it can."""
        if not self._preparing[member.target.model, member.target.version]:
            return 0.0
        settings = self._settings
        return min(prepared_s * settings.batch_patience, member.call.remaining_s() * settings.max_wait_share)

    async def _prepare(self, member: Member, work_bytes: int) -> float:
        """Does the stage's work for one large request; how long that took, with the wait for a thread."""
        started_s = time.monotonic()
        member.call.check_wait_budget(
            self._transform.wait_s, self._settings.max_wait_share, "a thread that prepares it"
        )
        version = member.target.model, member.target.version
        self._preparing[version] += 1
        try:
            async with asyncio.timeout(member.call.remaining_s()):
                member.prepared = await self._transform(member.plan, member.sent.arrays(), work_bytes)
        except TimeoutError:
            raise DeadlineExceeded("the request was not prepared within the time of the call") from None
        finally:
            self._preparing[version] -= 1
            if not self._preparing[version]:
                del self._preparing[version]
        made_bytes = sum([array.nbytes for array in member.prepared.values()])
        member.held_bytes += made_bytes
        self._in_flight_bytes.add(made_bytes)
        member.rows = len(next(iter(member.prepared.values())))
        return time.monotonic() - started_s

    def _limits(self, member: Member) -> Limits:
        settings = self._settings
        return Limits(
            slots=settings.batch_slots * max(1, len(member.target.predictors)),
            age_s=settings.batch_age_s,
            rows=member.plan.contract.max_rows,
            size_bytes=settings.batch_bytes,
        )

    async def _answer(self, group: Group) -> None:
        """Answers all members, or fails with what concerns them all."""
        stopwatch = self._metrics.stopwatch(group[0].since_s)
        stopwatch.end("queue")
        if len(group) == 1:
            return await self._answer_one(group[0], stopwatch)
        good, tensors = await self._prepared(group)
        stopwatch.end("transform")
        try:
            if good:
                await self._predict(good, tensors, stopwatch)
        except TriptychError as error:
            if len(good) == 1 or not _by_content(error):
                raise
            await asyncio.gather(*(self._predict_alone(pending, stopwatch) for pending in good))

    async def _answer_one(self, pending: Pending[Member, pb.ModelInferResponse], stopwatch: Stopwatch) -> None:
        """Answers a request without company. Raises its error."""
        member = pending.item
        tensors = member.prepared
        if tensors is None:
            tensors = await self._transform(member.plan, member.sent.arrays(), pending.size_bytes)
        stopwatch.end("transform")
        answer = await self._answered(member, tensors, pending.rows, member.call, stopwatch)
        answer.id = member.id
        member.parts = dict(stopwatch.parts)
        pending.answer(answer)

    async def _prepared(self, group: Group) -> tuple[Group, Mapping[str, Array]]:
        """The model's inputs of those members that the contract allows. The others have their errors."""
        try:
            return group, await self._tensors(group)
        except TriptychError as error:
            if not _by_content(error):
                raise
        good = []
        for pending in group:
            try:
                pending.item.prepared = await self._tensors([pending])
                good.append(pending)
            except TriptychError as error:
                pending.fail(error)
        return good, await self._tensors(good) if good else {}

    async def _tensors(self, group: Group) -> Mapping[str, Array]:
        prepared = [pending.item.prepared for pending in group if pending.item.prepared is not None]
        if prepared:
            return _stacked(prepared)
        sent = joined([pending.item.sent for pending in group])
        return await self._transform(group[0].item.plan, sent, sum([pending.size_bytes for pending in group]))

    async def _predict_alone(self, pending: Pending[Member, pb.ModelInferResponse], stopwatch: Stopwatch) -> None:
        try:
            await self._answer_one(pending, stopwatch)
        except Exception as error:
            pending.fail(error)

    async def _predict(self, group: Group, tensors: Mapping[str, Array], stopwatch: Stopwatch) -> None:
        last = group[-1].item  # the last knows best where the model is
        answer = await self._answered(
            last, tensors, sum([pending.rows for pending in group]), _call_of(group), stopwatch
        )
        for pending, own in zip(group, _split(answer, group), strict=True):
            own.id = pending.item.id
            pending.item.parts = dict(stopwatch.parts)
            pending.answer(own)

    async def _answered(
        self, member: Member, tensors: Mapping[str, Array], rows: int, call: Call, stopwatch: Stopwatch
    ) -> pb.ModelInferResponse:
        """The answer to so many rows of what this member asks, by Triton and postprocess."""
        predicted = await self._upstreams.predict(member.target, tensors, call)
        stopwatch.end("predict")
        outputs = decode_response(predicted)
        member.plan.check_model_outputs(outputs, rows)
        answer = await self._finished(member, outputs, call)
        stopwatch.end("postprocess")
        for tensor in answer.outputs:
            shape = tensor.shape
            if not shape or shape[0] != rows:
                got = f"'{tensor.name}' with shape {list(shape)}"
                raise ContractViolation(f"want {rows} rows in all outputs from postprocess, got {got}")
        return answer

    async def _finished(self, member: Member, outputs: Mapping[str, Array], call: Call) -> pb.ModelInferResponse:
        """Postprocess's answer for all rows of the group, signed."""
        target, plan = member.target, member.plan
        wanted = {name: outputs[name] for name in plan.model_outputs}  # Triton may have more
        batch = Predicted(target.model, str(target.version), plan, wanted, member.parameters, member.wanted)
        answer = await self._finish(batch, call)
        answer.parameters["triptych_preprocess_revision"].CopyFrom(self._revision)
        return answer


def _by_content(error: TriptychError) -> bool:
    return status_of(error)[0] in BY_CONTENT


def _call_of(group: Group) -> Call:
    """The group's call has the time of its most patient member, and goes on the trace of the first that has one."""
    calls = [pending.item.call for pending in group]
    traced = next((call for call in calls if call.metadata.get("traceparent")), calls[0])
    return Call(max(call.deadline for call in calls), traced.metadata)


def _stacked(parts: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The rows of all, in order."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _split(answer: pb.ModelInferResponse, group: Group) -> Iterator[pb.ModelInferResponse]:
    """Each member's rows of the group's answer, in order."""
    if len(group) == 1:
        yield answer
        return
    tensors = response_tensors(answer)
    answer.ClearField("raw_output_contents")
    start = shaped = 0
    for pending in group:
        rows, own = pending.rows, pb.ModelInferResponse()
        if rows != shaped:
            for tensor in answer.outputs:
                tensor.shape[0] = shaped = rows
        own.CopyFrom(answer)
        end = start + rows
        own.raw_output_contents.extend(tensors.raw(start, end))
        start = end
        yield own
