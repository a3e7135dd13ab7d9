"""Fixtures of the real stack on free ports: one shared by tests that leave it intact, and new ones for others."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from local.endpoints import free_endpoints
from local.environments import ROOT, ensure
from local.stack import LocalStack
from tests.integration.postgres import Postgres, postgres_server

INFER = "/inference.GRPCInferenceService/ModelInfer"
UNBOUNDED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]

MakeStack = Callable[..., LocalStack]


class Caller:
    """Plain gRPC client of one stage."""

    def __init__(self, address: str) -> None:
        self.channel: Any = grpc.insecure_channel(address, options=UNBOUNDED)
        self._infer: Any = self.channel.unary_unary(INFER)

    def infer(
        self, request: pb.ModelInferRequest | bytes, timeout_s: float = 20, **metadata: str
    ) -> pb.ModelInferResponse:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        return pb.ModelInferResponse.FromString(self._infer(data, timeout=timeout_s, metadata=tuple(metadata.items())))

    def refused(self, request: pb.ModelInferRequest | bytes, timeout_s: float = 20) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.infer(request, timeout_s)
        error: Any = caught.value
        return error.code(), error.details()


@pytest.fixture(scope="session")
def predictor_python() -> Path:
    return ensure("predictor")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, predictor_python: Path) -> Iterator[LocalStack]:
    """A shared stack. A test that stops, kills or fills a part creates its own with `make_stack`."""
    variables = {"CONTROLLER_IDLE_TTL_S": "0"}  # nothing is idle for too long
    with LocalStack(
        free_endpoints(), tmp_path_factory.mktemp("stack"), predictor_python, variables=variables
    ) as running:
        yield running


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def caller(stack: LocalStack) -> Iterator[Caller]:
    caller = Caller(stack.address("preprocess"))
    yield caller
    caller.channel.close()


@pytest.fixture
def make_stack(tmp_path: Path, predictor_python: Path) -> Iterator[MakeStack]:
    """Starts stacks of the test's own; `documents` maps file names to ServedModel documents."""
    made: list[LocalStack] = []

    def make(documents: dict[str, str] | None = None, **more: Any) -> LocalStack:
        folder = tmp_path / f"stack-{len(made)}"
        served = folder / "served-models"
        served.mkdir(parents=True)
        for name, text in (documents or {}).items():
            (served / name).write_text(text)
        made.append(LocalStack(free_endpoints(), folder / "run", predictor_python, served_models=served, **more))
        made[-1].start()
        return made[-1]

    yield make
    for stack in made:
        stack.stop()


@pytest.fixture
def copied_models(tmp_path: Path) -> Callable[..., Path]:
    """Copies of example models in a new model repository."""
    models = tmp_path / "my models"  # with a blank, as folders of people have

    def copy(*names: str) -> Path:
        for name in names:
            shutil.copytree(ROOT / "model-repository" / name, models / name)
        return models

    return copy
