"""Models are loaded into Triton and out of it by whoever has the key: the repository, and nobody else."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.chain import Chain
from tests.integration.conftest import Caller, MakeChain
from tests.integration.messages import infer_request, outputs_of, sales

MODEL, KEY = "sales_forecast_de", "a-key-of-this-test"
# The option of the chart (helm/triptych/templates/_control.tpl).
RESTRICTED = f"--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key={KEY}"
HEADER = "triton-grpc-protocol-key"
SHARED = {"name": "region", "key": "/region", "byte_size": 8}

CONTROL: list[tuple[str, Message]] = [
    ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=MODEL)),
    ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=MODEL)),
    ("RepositoryIndex", pb.RepositoryIndexRequest()),
    ("SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(**SHARED)),
    ("TraceSetting", pb.TraceSettingRequest()),
    ("LogSettings", pb.LogSettingsRequest()),
]


def asked(chain: Chain, method: str, request: Message, key: str = "") -> Any:
    """Triton's answer to a call past all stages."""
    with grpc.insecure_channel(chain.address("predictor")) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return getattr(stub, method)(request, timeout=5, metadata=((HEADER, key),) if key else ())


@pytest.fixture
def restricted(make_chain: MakeChain) -> Chain:
    return make_chain(variables={"PREDICTOR_OPTIONS": RESTRICTED, "REPOSITORY_TRITON_KEY": KEY})


def test_with_the_key_the_repository_loads_and_whoever_predicts_needs_none(restricted: Chain) -> None:
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


def test_without_the_key_in_the_repository_a_caller_is_told_what_triton_wants(make_chain: MakeChain) -> None:
    chain = make_chain(variables={"PREDICTOR_OPTIONS": RESTRICTED})
    code, details = Caller(chain.address("preprocess")).refused(infer_request(MODEL, sales()))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert f"expecting header '{HEADER}'" in details
    assert not [part for part in chain.pids() if KEY in chain.log(part).read_text()]
