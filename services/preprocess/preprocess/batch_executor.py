"""A batch's path through preprocess: the model's inputs, Triton, postprocess, and the rows of each request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from preprocess.batching import Batch, BatchKey
from preprocess.inference import InferenceRequest, InferenceResult
from preprocess.postprocessor import Postprocess
from preprocess.predictors import Predictors
from preprocess.transform import Transform
from triptych.datatypes import Array
from triptych.errors import AnswerTooLarge, ContractViolation, TriptychError
from triptych.postprocessing import PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.parameters import encode_parameter
from triptych.protocol.status import status_of
from triptych.protocol.tensors import decode_response, joined, response_tensors
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.metrics.stopwatch import Stopwatch

T = TypeVar("T")

Requests = Sequence[InferenceRequest]
Outcome = InferenceResult | Exception

# The contents of one request can be the cause of these: the others of its batch are then tried without it.
BY_CONTENT = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL})


class BatchExecutor:
    """Answers a batch by one call to a version of a model, and one to postprocess."""

    def __init__(
        self,
        metrics: StageMetrics,
        transform: Transform,
        predictors: Predictors,
        postprocess: Postprocess,
        revision: str,
    ) -> None:
        self._metrics, self._transform = metrics, transform
        self._predictors, self._postprocess = predictors, postprocess
        parameters = {"triptych_preprocess_revision": encode_parameter(revision)}
        self._revision = pb.ModelInferResponse(parameters=parameters).SerializeToString()  # added to each response

    async def execute(self, batch: Batch[InferenceRequest]) -> Sequence[Outcome]:
        """Returns the outcome of each request, in their order. Raises an error that concerns all of them."""
        stopwatch = self._metrics.stopwatch(batch.queued_at_s)
        stopwatch.end("queue")
        requests = batch.requests
        if len(requests) == 1:
            return (await self._infer_alone(requests[0], stopwatch),)
        try:
            inputs = await self._model_inputs(requests)
        except TriptychError as error:
            if not _is_by_content(error):
                raise
            return await self._infer_accepted(requests, stopwatch)
        stopwatch.end("transform")
        return await self._infer_together(requests, inputs, stopwatch)

    async def _infer_alone(self, request: InferenceRequest, stopwatch: Stopwatch) -> InferenceResult:
        inputs = request.model_inputs
        if inputs is None:
            inputs = await self._transform(request.plan, request.tensors.arrays(), request.size_bytes)
        stopwatch.end("transform")
        response = await self._infer(request, inputs, request.rows, request.call, stopwatch)
        response.id = request.id
        return InferenceResult(response, request.rows, dict(stopwatch.parts))

    async def _infer_together(
        self, requests: Requests, inputs: Mapping[str, Array], stopwatch: Stopwatch
    ) -> Sequence[Outcome]:
        rows = sum([request.rows for request in requests])
        last = requests[-1]  # the newest request has the newest placement of the model
        try:
            response = await self._infer(last, inputs, rows, _batch_call(requests), stopwatch)
        except TriptychError as error:
            if len(requests) == 1 or not _is_by_content(error):
                raise
            stopwatch.end("postprocess" if "predict" in stopwatch.parts else "predict")  # in vain
            return await _each_alone(requests, lambda request: self._infer_alone(request, stopwatch.fork()))
        timings, responses = dict(stopwatch.parts), _split(response, requests)
        return [InferenceResult(own, each.rows, timings) for own, each in zip(responses, requests, strict=True)]

    async def _infer_accepted(self, requests: Requests, stopwatch: Stopwatch) -> Sequence[Outcome]:
        """Outcomes of a batch of which the contract refuses some requests: the others are answered together.

        Prepared alone, requests may differ in their shapes, as those that are padded to the longest row do. Those of
        one shape share a call.
        """
        prepared = await _each_alone(requests, self._prepare)
        stopwatch.end("transform")
        groups: dict[BatchKey, list[InferenceRequest]] = {}
        for each in prepared:
            if isinstance(each, InferenceRequest):
                groups.setdefault(each.batch_key, []).append(each)
        answered = await asyncio.gather(*[self._infer_group(group, stopwatch.fork()) for group in groups.values()])
        rest = {key: iter(outcomes) for key, outcomes in zip(groups, answered, strict=True)}
        return [next(rest[each.batch_key]) if isinstance(each, InferenceRequest) else each for each in prepared]

    async def _infer_group(self, group: Requests, stopwatch: Stopwatch) -> Sequence[Outcome]:
        try:
            return await self._infer_together(group, await self._model_inputs(group), stopwatch)
        except Exception as error:
            return [error] * len(group)

    async def _prepare(self, request: InferenceRequest) -> InferenceRequest:
        return request.prepared(await self._model_inputs((request,)))

    async def _model_inputs(self, requests: Requests) -> Mapping[str, Array]:
        """The results of preprocess with the rows of all requests, in order."""
        prepared = [request.model_inputs for request in requests if request.model_inputs is not None]
        if prepared:
            return _stacked(prepared)
        tensors = joined([request.tensors for request in requests])
        return await self._transform(requests[0].plan, tensors, sum([request.size_bytes for request in requests]))

    async def _infer(
        self, request: InferenceRequest, inputs: Mapping[str, Array], rows: int, call: Call, stopwatch: Stopwatch
    ) -> pb.ModelInferResponse:
        """The response to these rows of what the request asks for, by Triton and postprocess."""
        target, plan = request.target, request.plan
        predicted = await self._predictors.predict(target, plan.model_inputs(inputs), call)
        stopwatch.end("predict")
        wanted = plan.predicted(decode_response(predicted), rows)
        if plan.carried:
            wanted |= plan.carried_values(inputs)
        batch = PredictedBatch(
            target.model, str(target.version), plan, wanted, request.parameters, request.output_names
        )
        response = await self._postprocess(batch, call)
        stopwatch.end("postprocess")
        _check_rows(response, rows)
        response.MergeFromString(self._revision)
        return response


async def _each_alone(requests: Requests, work: Callable[[InferenceRequest], Awaitable[T]]) -> Sequence[T | Exception]:
    """Retries each request of a batch alone, since the contents of one failed them all. Returns results and errors."""

    async def alone(request: InferenceRequest) -> T | Exception:
        try:
            return await work(request)
        except Exception as error:
            return error

    return await asyncio.gather(*map(alone, requests))


def _is_by_content(error: TriptychError) -> bool:
    return status_of(error)[0] in BY_CONTENT or isinstance(error, AnswerTooLarge)


def _batch_call(requests: Requests) -> Call:
    """A call with the latest deadline of all requests, and the trace of the first that has one."""
    calls = [request.call for request in requests]
    traced = next((call for call in calls if call.trace_metadata()), calls[0])
    return Call(max(call.deadline for call in calls), traced.metadata)


def _stacked(parts: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """The rows of all parts, in order."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check_rows(response: pb.ModelInferResponse, rows: int) -> None:
    for tensor in response.outputs[:]:
        shape = tensor.shape[:]
        if not shape or shape[0] != rows:
            got = f"'{tensor.name}' with shape {shape}"
            raise ContractViolation(f"want {rows} rows in all outputs from postprocess, got {got}")


def _split(response: pb.ModelInferResponse, requests: Requests) -> Sequence[pb.ModelInferResponse]:
    """The batch's response as one for each request, with its rows and its id."""
    if len(requests) == 1:
        response.id = requests[0].id
        return [response]
    tensors = response_tensors(response)
    response.ClearField("raw_output_contents")
    split = []
    start = shaped = 0
    for request in requests:
        rows, own = request.rows, pb.ModelInferResponse()
        if rows != shaped:
            for tensor in response.outputs:
                tensor.shape[0] = shaped = rows
        own.CopyFrom(response)
        own.id = request.id
        end = start + rows
        own.raw_output_contents.extend(tensors.raw(start, end))
        start = end
        split.append(own)
    return split
