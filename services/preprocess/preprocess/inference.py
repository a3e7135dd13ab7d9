"""Requests and results as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tritonclient.grpc import service_pb2 as pb

from preprocess.background import BackgroundKey
from preprocess.batching import BatchKey
from preprocess.catalog import Target
from triptych.contract import Plan
from triptych.datatypes import Array
from triptych.protocol.call import Call
from triptych.protocol.parameters import Parameter
from triptych.protocol.tensors import Tensors


@dataclass(slots=True)
class InferenceRequest:
    """One request, decoded: the caller's tensors and the version of a model that answers them.

    `rows` is 0 where tensors differ in their rows or there are none. `size_bytes` is that of the caller's tensors.
    `model_inputs`, with the values for postprocess, are made of them before the request joins a batch, if it is large.
    """

    id: str
    target: Target
    plan: Plan
    call: Call
    tensors: Tensors
    parameters: Mapping[str, Parameter]
    output_names: Sequence[str]
    rows: int
    size_bytes: int
    model_inputs: Mapping[str, Array] | None = None
    is_background: bool = False

    @property
    def batch_key(self) -> BatchKey:
        """Equal for requests that want the same of one version and differ in their rows alone."""
        shapes: tuple[object, ...] = self.tensors.row_signature
        if self.model_inputs is not None:
            shapes = tuple([(name, array.dtype, array.shape[1:]) for name, array in self.model_inputs.items()])
        parameters = tuple(self.parameters.items())
        key = self.target.model, self.target.version, shapes, tuple(self.output_names), parameters
        return BackgroundKey(key) if self.is_background else key

    def prepared(self, model_inputs: Mapping[str, Array]) -> InferenceRequest:
        """The same request with the model's inputs, by which its rows are known."""
        return replace(self, model_inputs=model_inputs, rows=len(next(iter(model_inputs.values()))))


@dataclass(slots=True)
class InferenceResult:
    """The answer to one request. `timings` are the seconds of each part of the work."""

    response: pb.ModelInferResponse
    rows: int
    timings: Mapping[str, float]

    def with_earlier(self, part: str, seconds: float) -> InferenceResult:
        """The same result, with time that a part took before the request joined a batch."""
        return replace(self, timings={**self.timings, part: self.timings[part] + seconds})
