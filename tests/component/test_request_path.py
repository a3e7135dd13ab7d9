"""The path of a request as docs/architecture.md states it: the files that real requests enter."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from grpc import aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from local.environments import ROOT
from postprocess.server import PostprocessStage
from postprocess.settings import Settings as PostprocessSettings
from preprocess.server import PreprocessStage
from preprocess.settings import Settings as PreprocessSettings
from tests.component.running_controller import RunningController, free_port, running
from tests.model_folders import publish
from triptych.protocol.tensors import encode_request
from triptych.runtime.settings import StageSettings
from triptych.server.lifecycle import RunnableService, shut_down

PAGE = ROOT / "docs/architecture.md"
PATH = re.compile(r"`((?:triptych|preprocess|postprocess|controller)/[\w/]*(?:\.py|/))`")
ERRORS = "triptych/protocol/status.py"
# Values and formulas that several steps use, and what runs in the same process: the controller, and a Triton on grpcio.
SHARED = r"triptych/(errors|datatypes|contract/specs|contract/schema/\w+|runtime/(ewma|addresses))\.py"
BESIDE = re.compile(
    rf"{SHARED}|controller/|triptych/server/grpcio\.py|triptych/protocol/peer\.py|triptych/protocol/update_parts\.py"
)


def section(title: str) -> str:
    """The text below a heading of the page."""
    return PAGE.read_text("utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


@asynccontextmanager
async def started(stage: RunnableService, settings: StageSettings) -> AsyncIterator[None]:
    await stage.server.open()
    try:
        await stage.start()
        yield
    finally:
        await shut_down(stage, settings)


@asynccontextmanager
async def stages(system: RunningController) -> AsyncIterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """Preprocess and postprocess beside the controller and its Triton, and a caller's stub of preprocess."""
    common: dict[str, Any] = {"metrics_port": 0, "controller": system.address, "drain_s": 0, "grace_s": 1}
    last = PostprocessSettings(port=free_port(), **common)
    first = PreprocessSettings(port=free_port(), postprocess=f"127.0.0.1:{last.port}", **common)
    async with (
        started(PostprocessStage(last), last),
        started(PreprocessStage(first), first),
        aio.insecure_channel(f"127.0.0.1:{first.port}") as channel,
    ):
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@contextmanager
def entered_files() -> Iterator[set[str]]:
    """Files of the services in which a function is called, as `package/module.py`."""
    found: set[str] = set()
    codes: set[Any] = set()
    services = f"{ROOT}/services/"

    def record(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            codes.add(frame.f_code)

    sys.setprofile(record)
    try:
        yield found
    finally:
        sys.setprofile(None)
        names = {code.co_filename for code in codes if code.co_filename.startswith(services)}
        found |= {name.removeprefix(services).partition("/")[2] for name in names}


def request() -> pb.ModelInferRequest:
    return encode_request(pb.ModelInferRequest(model_name="sales_de"), {"x": np.ones((1, 2), np.float32)})


def covers(named: str, path: str) -> bool:
    return path.startswith(named) if named.endswith("/") else path == named


async def test_requests_enter_the_files_that_the_architecture_names(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    publish(tmp_path / "models", "sales_de", 1)
    hot, cold = (set(PATH.findall(section(title))) for title in ("A hot request", "A cold request"))
    async with running(tmp_path) as system, stages(system) as stub:
        with entered_files() as entered:
            await stub.ModelInfer(request())
        assert not [named for named in cold if not any(covers(named, path) for path in entered)]
        with entered_files() as entered:
            await stub.ModelInfer(request())
    unnamed = [path for path in entered if not any(covers(named, path) for named in hot)]
    assert not [path for path in unnamed if not BESIDE.match(path)]
    assert not [named for named in hot - {ERRORS} if not any(covers(named, path) for path in entered)]
