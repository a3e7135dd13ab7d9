"""Model metadata of the Open Inference Protocol, made from a contract: for preprocess, and for postprocess.

A configuration has parameters of ours, from which `triptych_client` knows what it asks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonclient.grpc import model_config_pb2 as mc

from triptych.contract import Contract

PLATFORM: Final = "triptych"
# Parameters of a configuration: the version that it describes, the digest of that version's contract, and the rows of
# one request, which `max_batch_size` does not tell where it is 0.
VERSION: Final = "triptych_version"
CONTRACT: Final = "triptych_contract"
MAX_ROWS: Final = "triptych_max_rows"
SUMMARY: Final = "triptych_summary"  # operations of the running summary by output, as JSON


@dataclass(frozen=True)
class TensorInfo:
    """Metadata of one tensor. In its shape -1 stands for the rows and for any other open dimension."""

    name: str
    datatype: str
    shape: Sequence[int]
    optional: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of a model that a stage serves. `asked` is the version that the call names, '' for none.

    `version` is the one that is described, `contract` the digest of its contract. Both are '' where a family of several
    models was asked for: one of them is described.
    """

    name: str
    versions: Sequence[str]
    max_rows: int
    inputs: Sequence[TensorInfo]
    outputs: Sequence[TensorInfo]
    asked: str = ""
    version: str = ""
    contract: str = ""
    summary: Mapping[str, str] = field(default_factory=dict)


def caller_side(
    contract: Contract, name: str, versions: Sequence[str], asked: str = "", version: str = ""
) -> ModelInfo:
    """Metadata of preprocess: the contract's inputs and outputs."""
    inputs = [TensorInfo(t.name, t.datatype, t.shape, optional=not t.required) for t in contract.inputs]
    outputs = [TensorInfo(t.name, t.datatype, t.shape) for t in contract.outputs]
    digest = contract.digest() if version else ""
    return ModelInfo(name, versions, contract.max_rows, inputs, outputs, asked, version, digest, contract.summary or {})


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
    config = mc.ModelConfig(name=name, platform=PLATFORM, max_batch_size=model.max_rows if batched else 0)
    for tensor in model.inputs:
        config.input.add(
            name=tensor.name,
            data_type=_triton_type(tensor.datatype),
            dims=_dims(tensor, batched),
            optional=tensor.optional,
        )
    for tensor in model.outputs:
        config.output.add(name=tensor.name, data_type=_triton_type(tensor.datatype), dims=_dims(tensor, batched))
    summary = json.dumps(dict(model.summary)) if model.summary else ""
    given = {VERSION: model.version, CONTRACT: model.contract, MAX_ROWS: str(model.max_rows), SUMMARY: summary}
    for key, value in given.items():
        if value:
            config.parameters[key].string_value = value
    return config


def info_of(config: Any) -> ModelInfo:
    """The metadata of which `config_of` made a configuration, but for the list of versions.

    Raises `ValueError` for a configuration that it did not make.
    """
    given = {name: value.string_value for name, value in config.parameters.items()}
    if config.platform != PLATFORM or not given.get(MAX_ROWS, "").isdecimal():
        raise ValueError(f"want platform '{PLATFORM}' and a parameter {MAX_ROWS}, got platform '{config.platform}'")
    rows = [-1] if config.max_batch_size else []

    def info(tensor: Any, optional: bool) -> TensorInfo:
        return TensorInfo(tensor.name, _datatype(tensor.data_type), (*rows, *tensor.dims), optional)

    inputs = [info(tensor, tensor.optional) for tensor in config.input]
    outputs = [info(tensor, False) for tensor in config.output]
    version, contract = given.get(VERSION, ""), given.get(CONTRACT, "")
    summary = json.loads(given.get(SUMMARY) or "{}")
    return ModelInfo(config.name, (), int(given[MAX_ROWS]), inputs, outputs, "", version, contract, summary)


def _dims(tensor: TensorInfo, batched: bool) -> list[int]:
    return list(tensor.shape[1:] if batched else tensor.shape)


def _triton_type(datatype: str) -> mc.DataType:
    return mc.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")


def _datatype(triton_type: int) -> str:
    name: str = mc.DataType.Name(triton_type)
    return "BYTES" if name == "TYPE_STRING" else name.removeprefix("TYPE_")
