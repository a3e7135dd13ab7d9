"""Metadata of a model as the Open Inference Protocol shows it: a contract seen by callers, or by postprocess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as mc

from triptych.contract import Contract


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as metadata shows it: shape with -1 for the rows and for what varies."""

    name: str
    datatype: str
    shape: Sequence[int]
    optional: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """What a stage says about a model it serves."""

    name: str
    versions: Sequence[str]
    max_rows: int
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]


def caller_side(contract: Contract, name: str, versions: Sequence[str]) -> ModelInfo:
    """What preprocess takes and what the chain answers."""
    inputs = [TensorInfo(t.name, t.datatype, t.shape, optional=not t.required) for t in contract.inputs]
    outputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.outputs]
    return ModelInfo(name, versions, contract.max_rows, inputs, outputs)


def model_side(contract: Contract, name: str, versions: Sequence[str]) -> ModelInfo:
    """What postprocess takes (the model's outputs) and what the chain answers."""
    inputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.model.outputs]
    outputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.outputs]
    return ModelInfo(name, versions, contract.max_rows, inputs, outputs)


def config_of(name: str, model: ModelInfo) -> mc.ModelConfig:
    """The stage's view of a model in Triton's terms: dims without the rows, which `max_batch_size` stands for.

    An input that has rows and nothing else would be left without dims, which Triton's terms do not know (and
    perf_analyzer refuses): the rows are then among the dims of all tensors, and `max_batch_size` is 0.
    """
    batched = all(len(tensor.shape) > 1 for tensor in model.inputs)
    config = mc.ModelConfig(name=name, platform="triptych", max_batch_size=model.max_rows if batched else 0)
    for tensor in model.inputs:
        config.input.add(
            name=tensor.name,
            data_type=_triton_type(tensor.datatype),
            dims=_dims(tensor, batched),
            optional=tensor.optional,
        )
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=_triton_type(tensor.datatype), dims=_dims(tensor, batched))
    return config


def _dims(tensor: TensorInfo, batched: bool) -> list[int]:
    return list(tensor.shape[1:] if batched else tensor.shape)


def _triton_type(datatype: str) -> mc.DataType:
    return mc.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")
