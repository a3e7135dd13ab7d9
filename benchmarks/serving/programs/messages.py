"""Conversion of tensors from requests and to responses, for the peers that use Triton's protobuf messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, np_to_triton_dtype, serialize_byte_tensor, triton_to_np_dtype

Array = np.ndarray[Any, Any]


def inputs_of(request: Any) -> dict[str, Array]:
    """Arrays of a ModelInferRequest with raw contents, by name."""
    return {
        tensor.name: _array(tensor, raw) for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def answer_to(request: Any, outputs: dict[str, Array]) -> Any:
    """Build a ModelInferResponse with raw contents."""
    response = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
        response.raw_output_contents.append(_raw(array))
    return response


def _array(tensor: Any, raw: bytes) -> Array:
    if tensor.datatype == "BYTES":
        return np.asarray(deserialize_bytes_tensor(raw)).reshape(tensor.shape)
    return np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(tensor.shape)


def _raw(array: Array) -> bytes:
    if array.dtype == np.object_:
        packed: bytes = serialize_byte_tensor(array).item()
        return packed
    return array.tobytes()
