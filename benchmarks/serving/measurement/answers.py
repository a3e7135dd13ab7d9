"""Check of a system's answers before it is measured: every request of a workload, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2 as pb

from benchmarks.serving.systems.base import System
from benchmarks.serving.workloads import Arrays, ServingWorkload, differences
from local.errors import LocalError
from triptych.protocol.tensors import decode_response, encode_request

SERVICE = "inference.GRPCInferenceService"
INFER = f"/{SERVICE}/ModelInfer"
CONFIG = f"/{SERVICE}/ModelConfig"
AT_ONCE = 16
TIMEOUT_S = 120.0  # a cold model waits for the loads of those before it


class Case(NamedTuple):
    """A request to a model, and the right answer."""

    model: str
    request: Arrays
    answer: Arrays


def check(system: System, workload: ServingWorkload) -> None:
    """Send every request of the workload twice. Raises `LocalError` with the first wrong answer."""
    model = system.model(workload)
    pairs = zip(system.requests(workload), system.answers(workload), strict=True)
    check_cases(system, workload.name, [Case(model, *pair) for pair in pairs] * 2)


def check_cases(system: System, workload: str, cases: Sequence[Case]) -> None:
    """Send these requests and compare the answers. Raises `LocalError` with the first wrong answer."""
    with grpc.insecure_channel(system.address) as channel, ThreadPoolExecutor(AT_ONCE) as pool:
        method: Any = channel.unary_unary(INFER)
        for case, fault in zip(cases, pool.map(lambda case: _fault(method, case), cases), strict=True):
            if fault:
                raise LocalError(f"{system.name}, {workload}, {case.model}: {fault}")


def _fault(method: Any, case: Case) -> str:
    request = encode_request(pb.ModelInferRequest(model_name=case.model), case.request)
    try:
        data = method(request.SerializeToString(), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        refused: Any = error
        return f"{refused.code().name}: {refused.details()}"
    return next(differences(decode_response(pb.ModelInferResponse.FromString(data)), case.answer), "")


def batches(address: str, model: str) -> bool:
    """Whether the model's configuration has a `max_batch_size`. If so, load generators give shapes without the rows."""
    with grpc.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(CONFIG)
        data = method(pb.ModelConfigRequest(name=model).SerializeToString(), timeout=TIMEOUT_S)
    return bool(pb.ModelConfigResponse.FromString(data).config.max_batch_size)
