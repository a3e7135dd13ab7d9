"""Spans of the running processes at a collector: one trace through all stages."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from local.endpoints import free_endpoints
from local.stack import IN_PROCESS, LocalStack
from tests.fakes.span_collector import Collector, Span
from tests.integration.conftest import Caller
from tests.integration.load import until
from tests.integration.messages import infer_request, sales

TRITON = "--trace-config=mode=opentelemetry --trace-config=level=TIMESTAMPS --trace-config=rate=1"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module", params=[{}, IN_PROCESS], ids=["separate", "in-process"])
def traced(
    request: pytest.FixtureRequest,
    collector: Collector,
    tmp_path_factory: pytest.TempPathFactory,
    predictor_python: Path,
) -> Iterator[Caller]:
    """Preprocess of a stack whose parts all send spans, with and without a process for postprocess."""
    variables = {
        **request.param,
        **{f"{stage}_OTLP_ENDPOINT": collector.address for stage in ("PREPROCESS", "POSTPROCESS", "CONTROLLER")},
        "PREDICTOR_OPTIONS": f"{TRITON} --trace-config=opentelemetry,url={collector.url} "
        "--trace-config=opentelemetry,resource=service.name=triton --trace-config=opentelemetry,bsp_schedule_delay=100",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    folder = tmp_path_factory.mktemp("traced")
    with LocalStack(free_endpoints(), folder, predictor_python, variables=variables) as stack:
        caller = Caller(stack.address("preprocess"))
        yield caller
        caller.channel.close()


class Trace:
    """A trace that a caller has begun."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.id, self.root = secrets.token_hex(16), secrets.token_hex(8)
        self.parent = f"00-{self.id}-{self.root}-01"

    def spans(self, count: int) -> dict[tuple[str, str], Span]:
        """Wait for all spans, and return them by service and name, without those of the controller."""
        until(lambda: len(self._on_the_path()) >= count)
        spans = self._on_the_path()
        assert len(spans) == count, spans
        return {(span.service, span.name): span for span in spans}

    def _on_the_path(self) -> list[Span]:
        return [span for span in self._collector.spans(self.id) if span.service != "triptych-controller"]


@pytest.fixture
def trace(collector: Collector) -> Trace:
    return Trace(collector)


def test_one_trace_goes_through_all_three_stages(traced: Caller, trace: Trace) -> None:
    request = infer_request("sales_forecast", sales(3), route="DE")
    traced.infer(request)  # loads the model: the first call is longer by a load
    traced.infer(request, traceparent=trace.parent)
    spans = trace.spans(5)
    preprocess = spans["triptych-preprocess", "preprocess"]
    postprocess = spans["triptych-postprocess", "postprocess"]
    triton = spans["triton", "InferRequest"]
    assert preprocess.parent == trace.root
    assert postprocess.parent == triton.parent == preprocess.id
    assert spans["triton", "sales_forecast_de"].parent == triton.id
    assert spans["triton", "compute"].parent == spans["triton", "sales_forecast_de"].id
    said = {"triptych.model": "sales_forecast_de", "triptych.version": "1", "triptych.rows": "3"}
    assert preprocess.attributes == postprocess.attributes == said


def test_a_refused_request_is_a_span_with_its_code_in_the_stage_that_refused_it(traced: Caller, trace: Trace) -> None:
    with pytest.raises(grpc.RpcError):
        traced.infer(infer_request("nobody_knows_this", sales()), traceparent=trace.parent)
    (span,) = trace.spans(1).values()
    assert (span.service, span.parent) == ("triptych-preprocess", trace.root)
    assert span.attributes["rpc.grpc.status"] == "NOT_FOUND"


def test_a_caller_without_a_trace_gets_one(traced: Caller, collector: Collector) -> None:
    traced.infer(infer_request("sales_forecast_de", sales(5)))

    def of_five_rows() -> dict[str, Span]:
        return {span.name: span for span in collector.spans() if span.attributes.get("triptych.rows") == "5"}

    until(lambda: of_five_rows().keys() == {"preprocess", "postprocess"})
    spans = of_five_rows()
    assert spans["preprocess"].parent == ""
    assert spans["postprocess"].parent == spans["preprocess"].id
    assert spans["postprocess"].trace == spans["preprocess"].trace
