"""All that callers can reach at once on a real preprocess takes less memory than the chart gives it.

Attacks on its connections, requests at all limits of one, and models with large tokenizers come together, with the
default settings. The controller is real, the Triton behind it answers what it is asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import yaml
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from local.server_process import ServerProcess
from tests.component.running_controller import RunningController, free_port, running
from tests.component.test_hostile_streams import attack
from tests.fakes.scripted.attacks import FLOODS, ON_ALL_LIMITS
from tests.fakes.scripted.process import UNBOUNDED, ScriptedStage
from tests.model_folders import publish
from tests.small_tokenizers import bert
from triptych.protocol.tensors import encode_request

MIB = 1 << 20
SECONDS = 8 + float(os.environ.get("HOSTILE_SECONDS", "2"))
CHART_BYTES = 1024 * MIB  # of preprocess, which the first test compares with the chart
TOKENIZERS, WORDS = 6, 60_000
HANDSHAKE_BYTES = 48 * MIB  # those of unfinished TLS handshakes, which this stage without TLS does not have

CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 8
input [{{ name: "x" data_type: {type} dims: {dims} }}]
output [{{ name: "y" data_type: {type} dims: {dims} }}]
version_policy {{ all {{ }} }}
"""
CONTRACT = """\
apiVersion: triptych.dev/v1
kind: Contract
family: {name}
max_rows: 8
inputs: [{{name: given, datatype: BYTES, shape: [-1], max_bytes: 33554432}}]
preprocess: {steps}
model:
  inputs: [{{name: x, datatype: {type}, shape: {shape}}}]
  outputs: [{{name: y, datatype: {type}, shape: {shape}}}]
outputs: [{{name: y, datatype: {type}, shape: {shape}}}]
"""
PICTURE_STEPS: list[dict[str, Any]] = [
    {"op": "decode_image", "input": "given", "output": "picture", "formats": ["png", "jpeg"]},
    {"op": "resize", "input": "picture", "width": 8, "height": 8},
    {"op": "normalize", "input": "picture", "scale": 0.01},
    {"op": "layout", "input": "picture", "output": "x", "order": "nchw"},
]
TEXT_STEPS: list[dict[str, Any]] = [
    {
        "op": "tokenize",
        "input": "given",
        "file": "tokenizer.json",
        "max_length": 128,
        "max_bytes": 65536,
        "input_ids": "x",
    }
]

_NONE: Mapping[str, str] = MappingProxyType({})


def test_the_chart_gives_preprocess_as_much_memory() -> None:
    values = yaml.safe_load((ROOT / "helm/triptych/values.yaml").read_text())
    assert values["preprocess"]["resources"]["limits"] == {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}


def model(
    models: Path, name: str, steps: list[dict[str, Any]], type_: str, shape: list[int], files: Mapping[str, str] = _NONE
) -> None:
    """Write a version whose model answers its input. Its contract comes last."""
    folder = models / name / "1"
    folder.mkdir(parents=True)
    config = CONFIG.format(name=name, type=f"TYPE_{type_}", dims=json.dumps(shape[1:]))
    (models / name / "config.pbtxt").write_text(config)
    contract = CONTRACT.format(name=name, steps=json.dumps(steps), type=type_, shape=json.dumps(shape))
    for file, content in {"model.py": "", **files, "contract.yaml": contract}.items():
        (folder / file).write_text(content)


def publish_models(models: Path) -> None:
    publish(models, "sales_de")
    model(models, "pictures", PICTURE_STEPS, "FP32", [-1, 3, 8, 8])
    for number in range(TOKENIZERS):
        document = json.loads(bert().to_str())
        document["model"]["vocab"] |= {f"{number}word{each}": 1_000 + each for each in range(WORDS)}
        files = {"tokenizer.json": json.dumps(document)}
        model(models, f"texts{number}", TEXT_STEPS, "INT64", [-1, -1], files)


def asked(name: str, *rows: bytes) -> pb.ModelInferRequest:
    return encode_request(pb.ModelInferRequest(model_name=name), {"given": np.array(rows, np.object_)})


def pictures() -> pb.ModelInferRequest:
    """As many pixels as one request may have: 64 million."""
    pixels = np.zeros((4000, 4000, 3), np.uint8)
    pixels[::7] = 200
    return asked("pictures", *[cv2.imencode(".png", pixels)[1].tobytes()] * 4)


def photograph() -> pb.ModelInferRequest:
    pixels = np.random.default_rng(1).integers(0, 255, (2000, 3000, 3), np.uint8)
    return asked("pictures", *[cv2.imencode(".jpg", pixels)[1].tobytes()] * 4)


def texts(number: int) -> pb.ModelInferRequest:
    rows = [" ".join(random.choice("qzxj") * random.randint(1, 60) for _ in range(1500)).encode()[:60_000]] * 8
    return asked(f"texts{number}", *rows)


def packed() -> pb.ModelInferRequest:
    """50 MiB that gRPC sends as about 1 MiB."""
    return asked("pictures", *[random.randbytes(64_000) + bytes(6 * MIB)] * 8)


CALLERS: dict[str, Callable[[], pb.ModelInferRequest]] = {
    "pictures": pictures,
    "photographs": photograph,
    "packed": packed,
    **{f"texts {number}": lambda number=number: texts(number) for number in range(TOKENIZERS)},  # type: ignore[misc]
}


def call_until(stage: ScriptedStage, request: pb.ModelInferRequest, over: Event, *, compressed: bool) -> set[str]:
    """Call again and again, and return the names of the statuses."""
    found = set[str]()
    compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
    while not over.is_set():
        try:
            stage.oip.ModelInfer(request, timeout=60, compression=compression)
            found.add("OK")
        except grpc.RpcError as error:
            found.add(f"{error.code().name}")
            over.wait(0.05)
    return found


@contextmanager
def preprocess(folder: Path, system: RunningController) -> Iterator[ScriptedStage]:
    """The process with the settings of the chart: one thread, and a quarter of the memory for contracts."""
    port = free_port()
    settings = {
        "port": port,
        "metrics_port": 0,
        "controller": system.address,
        "postprocess": "in-process",
        "worker_threads": 1,
        "contract_cache_bytes": CHART_BYTES // 4,
        "connection_age_s": 0,
        "drain_s": 0,
        "grace_s": 1,
    }
    environment = {f"PREPROCESS_{name.upper()}": str(value) for name, value in settings.items()}
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    process = ServerProcess(
        "preprocess",
        ["prlimit", "--as=4294967296", sys.executable, "-m", "preprocess"],
        {**os.environ, **environment, "PYTHONPATH": path},
        f"127.0.0.1:{port}",
        folder / "preprocess.log",
        is_ready=lambda: True,
    )
    process.start()
    try:
        with grpc.insecure_channel(process.address, options=UNBOUNDED) as channel:
            grpc.channel_ready_future(channel).result(90)
            yield ScriptedStage("http2", process, channel)
    finally:
        process.stop(20)


def under_all(stage: ScriptedStage) -> dict[str, set[str]]:
    """Statuses of the hostile callers while everything comes at once. A good call is answered soon afterwards."""
    over = Event()
    requests = {name: make() for name, make in CALLERS.items()}
    with ThreadPoolExecutor(64) as threads:
        attacking = [threads.submit(attack, stage, FLOODS[name], over) for name in ON_ALL_LIMITS]
        calling = {
            name: [threads.submit(call_until, stage, request, over, compressed=name == "packed") for _ in range(3)]
            for name, request in requests.items()
        }
        over.wait(SECONDS)
        over.set()
        assert all(each.result() for each in attacking)
        statuses = {name: set[str]().union(*(each.result() for each in some)) for name, some in calling.items()}
    good = encode_request(pb.ModelInferRequest(model_name="sales_de"), {"x": np.ones((1, 2), np.float32)})
    stage.oip.ModelInfer(good, timeout=60)
    return statuses


@pytest.mark.timeout(600)
async def test_everything_at_once_takes_less_memory_than_the_chart_gives(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    publish_models(tmp_path / "models")
    async with running(tmp_path) as system:
        opened = preprocess(tmp_path, system)
        stage = await asyncio.to_thread(opened.__enter__)
        try:
            for name in ("sales_de", "pictures", *(f"texts{number}" for number in range(TOKENIZERS))):
                await system.ensure(name)
            statuses = await asyncio.to_thread(under_all, stage)
            print(f"peak {stage.peak_bytes() // MIB} MiB, {statuses}")
            assert stage.peak_bytes() < CHART_BYTES - HANDSHAKE_BYTES
            reached = {name for name, found in statuses.items() if "OK" in found}
            assert "pictures" in reached
            assert reached & {f"texts {number}" for number in range(TOKENIZERS)}
            assert any("RESOURCE_EXHAUSTED" in found for found in statuses.values())
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)
