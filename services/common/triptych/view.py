"""A contract as the Open Inference Protocol shows it, seen from the caller's side or from the model's."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.contract import Contract
from triptych.oip import ModelInfo, TensorInfo


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
