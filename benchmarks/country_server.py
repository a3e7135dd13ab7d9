"""Minimal service for one country: one process with onnxruntime and a gRPC server for one model.

    python -m benchmarks.country_server --model FILE --port N

It answers `ModelInfer` of the Open Inference Protocol with raw tensors. It has no batching, metrics or health checks.
Servers in real use (KServe's Python server, a Triton for each model) take more memory.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2 as pb


class CountryServer:
    """One model, one input, one output."""

    def __init__(self, model: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()

    def infer(self, request: pb.ModelInferRequest, _context: Any) -> pb.ModelInferResponse:
        rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        (result,) = self._session.run(None, {self._input.name: rows})
        response = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
        response.outputs.add(name=self._output.name, datatype="FP32", shape=result.shape)
        response.raw_output_contents.append(result.astype(np.float32).tobytes())
        return response


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.country_server", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="model.onnx")
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    handler = grpc.unary_unary_rpc_method_handler(
        CountryServer(given.model).infer,
        request_deserializer=pb.ModelInferRequest.FromString,
        response_serializer=pb.ModelInferResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    service = "inference.GRPCInferenceService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ModelInfer": handler}),))
    server.add_insecure_port(f"127.0.0.1:{given.port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
