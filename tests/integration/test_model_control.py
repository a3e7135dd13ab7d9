"""Model control of Triton: only the controller, which has the key, can load and unload models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.stack import LocalStack
from tests.integration.conftest import Caller, MakeStack
from tests.integration.messages import infer_request, outputs_of, sales

MODEL, KEY = "sales_forecast_de", "a-key-of-this-test"
# The option of the chart (helm/triptych/templates/predictor/_pod.tpl).
RESTRICTED = f"--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key={KEY}"
HEADER = "triton-grpc-protocol-key"
SHARED = {"name": "region", "key": "/region", "byte_size": 8}

CLOSED: list[tuple[str, Message]] = [
    ("SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest()),
    ("SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest()),
    ("CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="region", raw_handle=b"x", byte_size=8)),
    ("CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest()),
    ("CudaSharedMemoryUnregister", pb.CudaSharedMemoryUnregisterRequest()),
]
CONTROL: list[tuple[str, Message]] = [
    ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=MODEL)),
    ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=MODEL)),
    ("RepositoryIndex", pb.RepositoryIndexRequest()),
    ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(**SHARED)),
    ("TraceSetting", pb.TraceSettingRequest()),
    ("LogSettings", pb.LogSettingsRequest()),
]


def asked(stack: LocalStack, method: str, request: Message, key: str = "") -> Any:
    """Call Triton directly and return its answer."""
    with grpc.insecure_channel(stack.address("predictor")) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return getattr(stub, method)(request, timeout=5, metadata=((HEADER, key),) if key else ())


@pytest.fixture
def restricted(make_stack: MakeStack) -> LocalStack:
    return make_stack(variables={"PREDICTOR_OPTIONS": RESTRICTED, "CONTROLLER_TRITON_KEY": KEY})


def test_with_the_key_the_controller_loads_and_prediction_needs_none(restricted: LocalStack) -> None:
    answer = Caller(restricted.address("preprocess")).infer(infer_request(MODEL, sales()))
    assert outputs_of(answer)["units"]
    loaded = pb.ModelReadyRequest(name=MODEL, version=answer.model_version)
    assert asked(restricted, "ModelReady", loaded).ready
    assert asked(restricted, "ModelStatistics", pb.ModelStatisticsRequest()).model_stats
    for method, request in CONTROL:
        for key in ("", "another-key"):
            with pytest.raises(grpc.RpcError) as refused:
                asked(restricted, method, request, key)
            error: Any = refused.value
            assert error.code() is grpc.StatusCode.UNAVAILABLE, method
            assert HEADER in error.details(), method
    assert asked(restricted, "ModelReady", loaded).ready
    index = asked(restricted, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), KEY)
    assert [model.name for model in index.models] == [MODEL]


def refused(stack: LocalStack, method: str, request: Message, key: str = "") -> None:
    with pytest.raises(grpc.RpcError) as caught:
        asked(stack, method, request, key)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE, method
    assert HEADER in error.details(), method


def test_on_one_machine_no_other_user_has_a_model_of_theirs_loaded(make_stack: MakeStack) -> None:
    """`make run` sets a key. Without it, a load with a `model.py` in its request would run as its user."""
    stack = make_stack()
    caller = Caller(stack.address("preprocess"))
    assert outputs_of(caller.infer(infer_request(MODEL, sales())))["units"]
    foreign = pb.RepositoryModelLoadRequest(model_name="mine")
    foreign.parameters["config"].string_param = '{"backend": "python"}'
    foreign.parameters["file:1/model.py"].bytes_param = b"raise SystemExit"
    for method, request in [*CONTROL, *CLOSED, ("RepositoryModelLoad", foreign)]:
        refused(stack, method, request)
    index = asked(stack, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), stack.triton_key)
    assert [model.name for model in index.models] == [MODEL]


def test_the_key_of_one_machine_is_in_no_process_list_and_no_log(make_stack: MakeStack) -> None:
    stack = make_stack()
    Caller(stack.address("preprocess")).infer(infer_request(MODEL, sales()))
    assert len(stack.triton_key) >= 32
    for name, pid in stack.pids().items():
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        assert not [each for each in processes if any(stack.triton_key in word for word in each.cmdline())], name
        assert stack.triton_key not in stack.log(name).read_text()


def test_a_key_that_is_set_is_the_one_that_counts(make_stack: MakeStack) -> None:
    stack = make_stack(variables={"CONTROLLER_TRITON_KEY": KEY})
    assert outputs_of(Caller(stack.address("preprocess")).infer(infer_request(MODEL, sales())))["units"]
    assert asked(stack, "RepositoryIndex", pb.RepositoryIndexRequest(), KEY).models
    refused(stack, "RepositoryIndex", pb.RepositoryIndexRequest(), "another-key")


def test_what_one_machine_writes_is_for_its_user_alone(make_stack: MakeStack) -> None:
    """Shared memory holds tensors of requests, and logs name models and callers."""
    stack = make_stack()
    Caller(stack.address("preprocess")).infer(infer_request(MODEL, sales()))
    port = stack.address("predictor").rpartition(":")[2]
    shared = list(Path("/dev/shm").glob(f"triptych-{port}-*"))
    assert shared
    for path in (*shared, stack.run_folder, *stack.run_folder.iterdir()):
        assert not path.stat().st_mode & 0o077, path


def test_without_the_key_in_the_controller_the_error_names_what_triton_wants(make_stack: MakeStack) -> None:
    stack = make_stack(variables={"PREDICTOR_OPTIONS": RESTRICTED})
    code, details = Caller(stack.address("preprocess")).refused(infer_request(MODEL, sales()))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert f"expecting header '{HEADER}'" in details
    assert not [part for part in stack.pids() if KEY in stack.log(part).read_text()]
