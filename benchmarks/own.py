"""What preprocess's own code costs for a request of W1: everything but sockets, Triton and postprocess.

Those two answer at once here, so what is measured is checking, grouping, encoding, splitting and counting. `hot` is a
request after a request; `cold` is one after other memory was used, as it is for a process that shares its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

from benchmarks.report import Report
from benchmarks.serving.workloads import MODELS, WORKLOADS
from models.progress import Progress
from preprocess.catalogue import Catalogue, Target
from preprocess.chain import Chain
from preprocess.servicer import PreprocessServicer
from preprocess.settings import Settings
from preprocess.transform import Transform
from triptych.call import Call
from triptych.contract import Plan, load_contract
from triptych.datatypes import TO_NUMPY, Array
from triptych.metrics import StageMetrics
from triptych.postprocessing import Predicted
from triptych.proto import repository_pb2 as rp
from triptych.tensors import encode_request, encode_response
from triptych.tracing import Tracing
from triptych.workers import Workers

HELP = "preprocess's own code for a request, without sockets: by callers, hot and cold"
TITLE = "The code of preprocess"

CALLERS = (1, 4, 16, 64)
OTHERS_BYTES = 32 << 20  # more than the caches of a core
WORKLOAD = WORKLOADS["W1"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=4_000, help="of one run")
    parser.add_argument("--rounds", type=int, default=7)


def main(given: argparse.Namespace, report: Report) -> None:
    uvloop.run(measure(given, report))


async def measure(given: argparse.Namespace, report: Report) -> None:
    servicer = build()
    runs: dict[int, list[float]] = {callers: [] for callers in CALLERS}
    progress = Progress()
    for number in range(given.rounds):
        progress.begin(f"own: round {number + 1} of {given.rounds}")
        for callers in CALLERS:
            runs[callers].append(await cpu_us(servicer, callers, given.requests))
    progress.end()
    columns = ["callers", "CPU of a request, us", "least", "most"]
    report.table("Hot", columns, [(n, median(each), min(each), max(each)) for n, each in runs.items()])
    others = np.ones(OTHERS_BYTES, np.uint8)
    pauses: dict[str, Callable[[], object]] = {
        "hot": lambda: None,
        "cold: 32 MiB were read": others.sum,
        "cold: 4 ms of sleep": lambda: time.sleep(0.004),
    }
    alone = [(name, *await alone_us(servicer, pause, given.requests // 10)) for name, pause in pauses.items()]
    report.table("One caller, time of a request", ["before it", "p50, us", "p90, us"], alone)


class Answering:
    """Triton and postprocess, there at once: what is left of a call is to encode it and to read the answer."""

    def __init__(self, plan: Plan) -> None:
        self._specs = {"predict": plan.contract.model.outputs, "finish": plan.contract.outputs}
        self._encoded: dict[tuple[str, int], bytes] = {}

    async def predict(self, target: Target, tensors: Mapping[str, Array], _call: Call) -> pb.ModelInferResponse:
        request = encode_request(pb.ModelInferRequest(model_name=target.model), tensors)
        return await self._answer("predict", request)

    async def __call__(self, batch: Predicted, _call: Call) -> pb.ModelInferResponse:
        """Postprocess's answer."""
        request = pb.ModelInferRequest(model_name=batch.model, model_version=batch.version)
        return await self._answer("finish", encode_request(request, batch.outputs))

    async def _answer(self, method: str, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        request.SerializeToString()
        await asyncio.sleep(0)
        key = method, request.inputs[0].shape[0]
        if key not in self._encoded:
            rows = {
                spec.name: np.ones((key[1], *spec.shape[1:]), TO_NUMPY[spec.datatype]) for spec in self._specs[method]
            }
            self._encoded[key] = encode_response(pb.ModelInferResponse(), rows).SerializeToString()
        return pb.ModelInferResponse.FromString(self._encoded[key])


class Contracts:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def get(self, _model: str, _version: int, _call: Call) -> Plan:
        return self._plan


def build() -> PreprocessServicer:
    settings, metrics = Settings(), StageMetrics("preprocess", Tracing())
    plan = Plan(load_contract(MODELS / WORKLOAD.model / "1/contract.yaml"))
    nobody: Any = None  # no repository: the catalogue is told here
    catalogue = Catalogue(nobody)
    version = rp.Version(version=1, percent=100, predictors=["127.0.0.1:8001"])
    told = rp.Model(name=WORKLOAD.model, family="sales_forecast", route="DE", versions=[version])
    catalogue.apply(rp.CatalogueUpdate(full=True, models=[told]))
    upstreams: Any = Answering(plan)
    contracts: Any = Contracts(plan)
    chain = Chain(settings, metrics, Transform(Workers(1, settings.inline_bytes)), upstreams, upstreams)
    return PreprocessServicer(settings, metrics, catalogue, contracts, chain)


@cache
def encoded() -> bytes:
    request = encode_request(pb.ModelInferRequest(model_name=WORKLOAD.model), WORKLOAD.requests[0])
    data: bytes = request.SerializeToString()
    return data


async def answered(servicer: PreprocessServicer) -> None:
    """One request, from its bytes to the bytes of its answer."""
    request = pb.ModelInferRequest.FromString(encoded())
    (await servicer.model_infer(request, Call.within(30.0))).SerializeToString()


async def cpu_us(servicer: PreprocessServicer, callers: int, requests: int) -> float:
    async def caller() -> None:
        for _ in range(requests // callers):
            await asyncio.create_task(answered(servicer))  # a task for each, as behind a door

    before = time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return (time.process_time() - before) / (requests // callers * callers) * 1e6


async def alone_us(servicer: PreprocessServicer, pause: Callable[[], object], requests: int) -> tuple[float, float]:
    took = []
    for _ in range(requests):
        pause()
        before = time.perf_counter()
        await answered(servicer)
        took.append((time.perf_counter() - before) * 1e6)
    return median(took), float(np.percentile(took, 90))
