"""Model metadata of the Open Inference Protocol, made from a contract: for preprocess, and for postprocess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as mc

from triptych.contract import Contract


@dataclass(frozen=True)
class TensorInfo:
    """Metadata of one tensor. In its shape -1 stands for the rows and for any other open dimension."""

    name: str
    datatype: str
    shape: Sequence[int]
    optional: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model that a stage serves. `asked` is the version that the call names, '' for none."""

    name: str
    versions: Sequence[str]
    max_rows: int
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    asked: str = ""


def caller_side(contract: Contract, name: str, versions: Sequence[str], asked: str) -> ModelInfo:
    """Metadata of preprocess: the contract's inputs and outputs."""
    inputs = [TensorInfo(t.name, t.datatype, t.shape, optional=not t.required) for t in contract.inputs]
    outputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.outputs]
    return ModelInfo(name, versions, contract.max_rows, inputs, outputs, asked)


def model_side(contract: Contract, name: str, versions: Sequence[str], asked: str) -> ModelInfo:
    """Metadata of postprocess: its inputs are the model's outputs."""
    inputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.model.outputs]
    outputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.outputs]
    return ModelInfo(name, versions, contract.max_rows, inputs, outputs, asked)


def config_of(name: str, model: ModelInfo) -> mc.ModelConfig:
    """Model configuration in Triton's form: `max_batch_size` stands for the rows, `dims` are the other dimensions.

    If an input has no dimension but the rows, `dims` would be empty, which perf_analyzer refuses. Then `max_batch_size`
    is 0, and the rows are the first of the `dims` of all tensors.
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
