"""A batch gets the same response over a socket and within preprocess's process: bytes, codes, counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from tritonclient.grpc import service_pb2 as pb

from local.environments import ROOT
from postprocess.servicer import PostprocessServicer
from postprocess.settings import Settings as PostprocessSettings
from preprocess.postprocessor import InProcessPostprocess, Postprocess, RemotePostprocess
from preprocess.settings import Settings
from triptych.client.transport import Transport
from triptych.contract import Contract, Plan, load_contract
from triptych.datatypes import Array
from triptych.errors import ContractViolation, DeadlineExceeded, Internal, Overloaded
from triptych.postprocessing import Postprocessor, PredictedBatch
from triptych.protocol.call import Call
from triptych.protocol.methods import methods_of
from triptych.protocol.status import status_of
from triptych.runtime.in_flight import InFlightBytes
from triptych.runtime.short_work import ShortWork
from triptych.runtime.thread_pool import ThreadPool
from triptych.server import GrpcioServer
from triptych.server.inference_servicer import SERVICE
from triptych.telemetry.exported_spans import ExportedSpans
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import Tracing

MODELS = ROOT / "model-repository"
SALES, DIGITS = (Plan(load_contract(MODELS / name / "1/contract.yaml")) for name in ("sales_forecast_de", "digits_gb"))
SMALL, LARGE = ShortWork(ThreadPool(1), 1 << 20, 60), ShortWork(ThreadPool(1), 0, 0)  # without and with a thread


def tiny(*steps: dict[str, Any]) -> Plan:
    """`scale` with other steps after the model."""
    document = load_contract(ROOT / "tests/data/tiny-models/scale/1/contract.yaml").model_dump(by_alias=True)
    return Plan(Contract.model_validate({**document, "postprocess": list(steps)}))


def batch(plan: Plan, outputs: Mapping[str, Array], *output_names: str, **parameters: Any) -> PredictedBatch:
    return PredictedBatch("m", "1", plan, outputs, plan.check_parameters(parameters), output_names or plan.outputs)


def rows(count: int, width: int, name: str) -> dict[str, Array]:
    return {name: np.random.default_rng(count).normal(0, 100, (count, width)).astype(np.float32)}


class Contracts:
    """Knows one contract at a time."""

    plan = SALES

    async def get(self, _model: str, _version: int, _call: Call, _waiting: Any = None) -> Plan:
        return self.plan


class Both:
    """Both kinds of postprocess, with the metrics of each."""

    def __init__(self, remote: Postprocess, work: ShortWork, contracts: Contracts, counted: StageMetrics) -> None:
        self.remote, self._contracts = remote, contracts
        self.metrics = {"remote": counted, "in-process": StageMetrics("postprocess", Tracing())}
        self.in_process = InProcessPostprocess(Settings(), self.metrics["in-process"], work)

    async def __call__(self, batch: PredictedBatch) -> list[pb.ModelInferResponse | BaseException]:
        self._contracts.plan = batch.plan
        both: tuple[Postprocess, Postprocess] = (self.remote, self.in_process)
        return [(await asyncio.gather(each(batch, Call.within(20)), return_exceptions=True))[0] for each in both]


@asynccontextmanager
async def both(work: ShortWork = SMALL) -> AsyncIterator[Both]:
    settings = PostprocessSettings(port=0)
    nobody: Any = None
    contracts: Any = Contracts()
    counted = StageMetrics("postprocess", Tracing())
    postprocessor = Postprocessor(counted, work, InFlightBytes(settings.max_bytes_in_flight), settings.revision)
    servicer = PostprocessServicer(settings, counted, contracts, postprocessor, nobody)
    server = GrpcioServer([methods_of(SERVICE, servicer)], settings)
    await server.open()
    await server.set_ready(True)
    remote = RemotePostprocess(Settings(postprocess=f"127.0.0.1:{server.port}"), Transport())
    try:
        await remote.reach()
        yield Both(remote, work, contracts, counted)
    finally:
        await remote.close()
        await server.close(0)


def series(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Counted series, without times."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith(("_bucket", "_created", "seconds_sum"))
    }


def sized(outputs: Mapping[str, Array]) -> PredictedBatch:
    """`scale` with a step that reads a value of preprocess, which reads a number for each row."""
    document = load_contract(ROOT / "tests/data/tiny-models/scale/1/contract.yaml").model_dump(by_alias=True)
    inputs = [*document["inputs"], {"name": "size", "datatype": "INT32", "shape": [-1]}]
    steps = [
        {"op": "cast", "input": "size", "datatype": "FP32", "output": "column"},
        {"op": "concatenate", "inputs": ["output", "column"], "output": "wide"},
    ]
    last = [{"name": "wide", "datatype": "FP32", "shape": [-1, 4]}]
    more = {"inputs": inputs, "postprocess": steps, "outputs": last}
    return batch(Plan(Contract.model_validate({**document, **more})), outputs)


SIZES = {"size": np.arange(16, dtype=np.int32)}

GOOD = {
    "a value of preprocess": lambda: sized(rows(16, 3, "output") | SIZES),
    "one row": lambda: batch(SALES, rows(1, 7, "forecast")),
    "many rows": lambda: batch(SALES, rows(256, 7, "forecast")),
    "one of two outputs": lambda: batch(SALES, rows(3, 7, "forecast"), "total"),
    "outputs in another order": lambda: batch(SALES, rows(3, 7, "forecast"), "total", "units"),
    "words": lambda: batch(DIGITS, rows(5, 10, "logits")),
    "a parameter": lambda: batch(DIGITS, rows(5, 10, "logits"), top_k=7),
    "no steps at all": lambda: batch(tiny(), rows(16, 3, "output")),
}
BROKEN = {
    "a value that does not fit": lambda: batch(SALES, {"forecast": np.full((2, 7), 1e30, np.float32)}),
    "not a number": lambda: batch(SALES, {"forecast": np.full((2, 7), np.nan, np.float32)}),
    "over a range": lambda: batch(
        tiny({"op": "range", "input": "output", "maximum": 1.0}), {"output": np.full((2, 3), 2, np.float32)}
    ),
}


@pytest.mark.parametrize("work", [SMALL, LARGE], ids=["in place", "in a thread"])
@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
async def test_answers_are_the_same_bytes(make: Callable[[], PredictedBatch], work: ShortWork) -> None:
    async with both(work) as postprocess:
        remote, own = await postprocess(make())
        assert isinstance(remote, pb.ModelInferResponse), remote
        assert isinstance(own, pb.ModelInferResponse), own
        assert remote.SerializeToString(deterministic=True) == own.SerializeToString(deterministic=True)
        assert own.parameters["triptych_postprocess_revision"].string_param == Settings().revision
        assert series(postprocess.metrics["remote"].registry) == series(postprocess.metrics["in-process"].registry)


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
async def test_outputs_that_the_contract_refuses_are_the_same_error(make: Callable[[], PredictedBatch]) -> None:
    async with both() as postprocess:
        remote, own = await postprocess(make())
        assert type(remote) is type(own) is ContractViolation
        assert status_of(remote) == status_of(own)
        text, _, remote_id = str(remote).partition(" (request ")
        assert remote_id  # in the log of the other process
        assert text.partition("refused")[2] == str(own).partition("refused")[2]
        assert series(postprocess.metrics["remote"].registry) == series(postprocess.metrics["in-process"].registry)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        (rows(16, 3, "output"), "input 'size': want the value of preprocess that postprocess reads, got nothing"),
        (rows(2, 3, "output") | SIZES, "input 'size': want 2 rows, as the model's outputs have, got INT32[16]"),
        (rows(16, 3, "output") | {"size": np.arange(5)}, "input 'size': want 16 rows, as the model's outputs have"),
        (rows(16, 3, "output") | SIZES | {"x": np.ones(16)}, "input 'x': want one of output, size"),
        (rows(16, 3, "output") | {"size": np.arange(99_999)}, "have, got INT64[99999]"),
        (rows(16, 3, "output") | {"size": np.array(1)}, "have, got INT64[]"),
    ],
    ids=["missing", "more rows than the output", "fewer rows", "another name", "too many rows", "no rows"],
)
async def test_values_of_preprocess_are_checked_by_the_separate_stage(outputs: dict[str, Array], text: str) -> None:
    async with both() as postprocess:
        remote, _ = await postprocess(sized(outputs))
        assert isinstance(remote, ContractViolation)
        assert text in str(remote)


async def test_a_fault_of_ours_is_the_same_error_and_no_other_exception() -> None:
    """Any other error than a `TriptychError` would fail a whole batch, and not the one request that is its cause."""

    class Odd(Plan):
        def observed(self, answer: Mapping[str, Array]) -> Mapping[str, int]:
            raise RuntimeError("odd")

    async with both() as postprocess:
        remote, own = await postprocess(batch(Odd(SALES.contract), rows(1, 7, "forecast")))
        assert type(remote) is type(own) is Internal
        assert "RuntimeError: odd" in str(own)
        assert status_of(remote) == status_of(own)


async def test_no_time_left_is_the_same_error() -> None:
    async with both() as postprocess:
        for each in (postprocess.remote, postprocess.in_process):
            with pytest.raises(DeadlineExceeded):
                await each(batch(SALES, rows(1, 7, "forecast")), Call.within(-1))


async def test_the_step_in_process_leaves_the_callers_call_as_it_is_and_counts_by_itself() -> None:
    """The caller's call counts once, when its answer is written, and has the span of preprocess."""
    metadata = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    spans = ExportedSpans("postprocess", "", InMemorySpanExporter())
    metrics = StageMetrics("postprocess", spans)
    postprocess, call = InProcessPostprocess(Settings(), metrics, SMALL), Call.within(20, metadata)
    call.on_settled = []
    await postprocess(batch(SALES, rows(1, 7, "forecast")), call)
    assert (call.on_settled, call.metadata) == ([], metadata)
    labels = {"stage": "postprocess", "family": "sales_forecast", "version": "1", "code": "OK"}
    assert metrics.registry.get_sample_value("triptych_requests_total", labels) == 1
    spans.close()


async def test_the_limit_of_time_and_of_bytes_hold_in_process() -> None:
    release = threading.Event()

    class Slow(Plan):
        def postprocess(self, outputs: Mapping[str, Array], parameters: Mapping[str, Any] | None = None) -> Any:
            assert release.wait(60)
            return super().postprocess(outputs, parameters or {})

    work, metrics = ShortWork(ThreadPool(1), 0, 0), StageMetrics("postprocess", Tracing())
    postprocess = InProcessPostprocess(Settings(max_bytes_in_flight=1, postprocess_timeout_s=0.5), metrics, work)
    slow = replace(batch(SALES, rows(1, 7, "forecast")), plan=Slow(SALES.contract))
    first = asyncio.ensure_future(postprocess(slow, Call.within(20)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="postprocess in preprocess's process is full: 28 bytes are in flight"):
        await postprocess(slow, Call.within(20))
    with pytest.raises(DeadlineExceeded, match=r"in preprocess's process did not answer within 0.500 s"):
        await first
    release.set()
    assert (await postprocess(slow, Call.within(20))).model_name == "m"
    for code in ("RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "OK"):
        labels = {"stage": "postprocess", "family": "sales_forecast", "version": "1", "code": code}
        assert metrics.registry.get_sample_value("triptych_requests_total", labels) == 1
