"""KServe transformer: a `kserve.Model` of the SDK with `preprocess` and `postprocess` in front of Triton, over gRPC.

    python -m benchmarks.serving.programs.kserve_transformer --models a,b --configs FOLDER --predictor_host H:P ...

The SDK reads its own options from the same command line. FOLDER holds the serialised answers to ModelMetadata and
ModelConfig of each model: load generators ask for both, and the SDK does not serve ModelConfig.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import grpc
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as pb_grpc

from benchmarks.serving.programs import work

SERVICE = "inference.GRPCInferenceService"
DATATYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32", "object": "BYTES"}


class Transformer(Model):  # type: ignore[misc]
    """Transformer of one model."""

    def __init__(self, name: str, configs: Path) -> None:
        super().__init__(name)
        self._kind = work.kind_of(name)
        self._metadata = pb.ModelMetadataResponse.FromString((configs / f"{name}.metadata").read_bytes())
        self.ready = True

    def preprocess(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferRequest:
        tensors = work.before(self._kind, {tensor.name: tensor.as_numpy() for tensor in payload.inputs})
        inputs = []
        for name, array in tensors.items():
            tensor = InferInput(name, list(array.shape), DATATYPES[array.dtype.name])
            tensor.set_data_from_numpy(array, binary_data=True)
            inputs.append(tensor)
        return InferRequest(self.name, inputs, request_id=payload.id)

    def postprocess(
        self, result: InferResponse, headers: dict[str, str] | None = None, response_headers: Any = None
    ) -> InferResponse:
        answer = work.after(self._kind, {tensor.name: tensor.as_numpy() for tensor in result.outputs})
        outputs = []
        for name, array in answer.items():
            tensor = InferOutput(name, list(array.shape), DATATYPES[array.dtype.name])
            tensor.set_data_from_numpy(array, binary_data=True)
            outputs.append(tensor)
        return InferResponse(result.id, self.name, outputs, use_binary_outputs=True)

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in self._metadata.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in self._metadata.outputs]


def teach_model_config(configs: Path) -> None:
    """Patch the SDK so that its gRPC servers answer ModelConfig."""
    original = pb_grpc.add_GRPCInferenceServiceServicer_to_server

    async def answer(request: bytes, _context: Any) -> bytes:
        name = pb.ModelMetadataRequest.FromString(request).name  # both messages have the same fields
        return (configs / f"{name}.config").read_bytes()

    def add(servicer: Any, server: Any) -> None:
        original(servicer, server)
        methods: dict[str, Any] = {"ModelConfig": grpc.unary_unary_rpc_method_handler(answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    pb_grpc.add_GRPCInferenceServiceServicer_to_server = add


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", required=True)
    parser.add_argument("--configs", type=Path, required=True)
    given, _ = parser.parse_known_args()
    teach_model_config(given.configs)
    ModelServer().start([Transformer(name, given.configs) for name in given.models.split(",")])


if __name__ == "__main__":
    main()
