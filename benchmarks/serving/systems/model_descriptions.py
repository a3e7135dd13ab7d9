"""Model metadata and configurations that servers other than Triton return to load generators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as mc
from tritonclient.grpc import service_pb2 as pb

from benchmarks.serving.workloads import Arrays, ServingWorkload, tensor_specs

MAX_ROWS = 64


def write_descriptions(folder: Path, workloads: Sequence[ServingWorkload]) -> Path:
    """Write `MODEL.metadata` and `MODEL.config`: serialised answers to ModelMetadata and ModelConfig."""
    folder.mkdir(parents=True, exist_ok=True)
    for workload in {workload.model: workload for workload in workloads}.values():
        inputs, outputs = workload.requests[0], workload.answers[0]
        metadata = pb.ModelMetadataResponse(
            name=workload.model, versions=["1"], inputs=_tensors(inputs), outputs=_tensors(outputs)
        )
        config = mc.ModelConfig(name=workload.model, max_batch_size=MAX_ROWS)
        for name, datatype, shape in tensor_specs(inputs):
            config.input.add(name=name, data_type=_type(datatype), dims=shape or [1])
        for name, datatype, shape in tensor_specs(outputs):
            config.output.add(name=name, data_type=_type(datatype), dims=shape or [1])
        (folder / f"{workload.model}.metadata").write_bytes(metadata.SerializeToString())
        (folder / f"{workload.model}.config").write_bytes(pb.ModelConfigResponse(config=config).SerializeToString())
    return folder


def model_words(folder: Path, workloads: Sequence[ServingWorkload], models: Path) -> list[str]:
    """Arguments `--configs FOLDER NAME=FILE.onnx ...` of a program that runs the models itself."""
    configs = write_descriptions(folder / "configs", workloads)
    names = sorted({workload.model for workload in workloads})
    return ["--configs", str(configs), *(f"{name}={models / name / '1/model.onnx'}" for name in names)]


def _tensors(arrays: Arrays) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=[-1, *(shape or [1])])
        for name, datatype, shape in tensor_specs(arrays)
    ]


def _type(datatype: str) -> int:
    number: int = mc.DataType.Value(f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}")
    return number
