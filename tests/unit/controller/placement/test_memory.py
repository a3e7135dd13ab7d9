"""Bytes of a version: measured before declared before estimated, and measured only if the figure is reliable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from controller.placement.policy.eviction import Capacity
from controller.placement.policy.memory import SETTLE_S, MemoryMeter, MemorySizes, Size
from controller.placement.predictors.triton_client import GpuMemory, TritonClient, _gpu_memory
from controller.placement.settings import PlacementSettings
from tests.fakes.triton import FakeTriton
from tests.unit.controller.placement.harness import PlacementHarness, read

A, B, C = ("a", 1), ("b", 1), ("c", 1)
GB = 10**9

# What Triton 2.51 writes on a machine with two GPUs, shortened.
METRICS = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="sales_de",version="1"} 12
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
# HELP nv_gpu_memory_total_bytes GPU total memory, in bytes
# TYPE nv_gpu_memory_total_bytes gauge
nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"} 85520809984
nv_gpu_memory_total_bytes{gpu_uuid="GPU-2"} 85520809984
# HELP nv_gpu_memory_used_bytes GPU used memory, in bytes
# TYPE nv_gpu_memory_used_bytes gauge
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 1073741824
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 524288000
# HELP nv_cpu_memory_used_bytes CPU used memory (RAM), in bytes
# TYPE nv_cpu_memory_used_bytes gauge
nv_cpu_memory_used_bytes 9000000
"""
TWO_GPUS = GpuMemory(1073741824 + 524288000, 2 * 85520809984)

Publish = Callable[..., Path]


def sizes(factor: float = 1.5, base: int = 100) -> MemorySizes:
    return MemorySizes(PlacementSettings(estimate_factor=factor, estimate_base_bytes=base))


def test_the_measurement_precedes_the_declaration_and_that_the_estimate() -> None:
    memory = sizes()
    assert memory.size(A, 0, 1000) == Size(1600, "estimated")
    assert memory.size(A, 700, 1000) == Size(700, "declared")
    memory.record(A, 900)
    assert memory.size(A, 700, 1000) == Size(900, "measured")
    assert memory.size(B, 700, 1000) == Size(700, "declared")


def test_the_largest_measurement_is_kept() -> None:
    memory = sizes()
    for grown in (900, 800, 0, -50):
        memory.record(A, grown)
    assert memory.size(A, 0, 0) == Size(900, "measured")


def test_a_measurement_is_dropped_with_its_model() -> None:
    memory = sizes()
    memory.record(A, 900)
    memory.record(B, 900)
    memory.prune({"b": None})
    assert (memory.size(A, 0, 0).source, memory.size(B, 0, 0).source) == ("estimated", "measured")


@given(st.integers(0, 10**12), st.floats(0, 10), st.integers(0, 10**9))
def test_the_estimate_follows_its_stated_rule(file_bytes: int, factor: float, base: int) -> None:
    size = sizes(factor, base).size(A, 0, file_bytes)
    assert size == Size(int(file_bytes * factor) + base, "estimated")


class Clocked:
    """A meter that observes every second."""

    def __init__(self) -> None:
        self.meter, self.now_s = MemoryMeter(), 1000.0

    def scan(self, *ready: tuple[str, int], used: int, seconds: int = 1, settled: bool = True) -> list[object]:
        """Figures of so many readings."""
        reported = []
        for _ in range(seconds):
            self.now_s += 1
            reported.append(self.meter.observe(frozenset(ready), used, self.now_s, settled=settled))
        return [each for each in reported if each]


SETTLED = int(SETTLE_S) + 1


def test_the_memory_of_a_version_is_the_growth_between_two_idle_periods() -> None:
    clocked = Clocked()
    assert clocked.scan(A, used=5 * GB, seconds=SETTLED) == []
    assert clocked.scan(A, used=6 * GB, settled=False) == []
    assert clocked.scan(A, B, used=6 * GB, seconds=SETTLED - 1) == []
    assert clocked.scan(A, B, used=7 * GB, seconds=SETTLED) == [(B, 2 * GB)]


def test_the_memory_before_is_that_of_the_last_idle_observation() -> None:
    """Requests make a Triton's memory grow too, and that growth belongs to no version."""
    clocked = Clocked()
    clocked.scan(A, used=5 * GB, seconds=SETTLED)
    clocked.scan(A, used=6 * GB)
    assert clocked.scan(A, B, used=7 * GB, seconds=SETTLED) == [(B, GB)]


@pytest.mark.parametrize("after", [(A, B, C), (B,), (A,), (B, C), ()])
def test_nothing_is_measured_unless_one_version_was_loaded_and_none_unloaded(
    after: tuple[tuple[str, int], ...],
) -> None:
    clocked = Clocked()
    clocked.scan(A, used=GB, seconds=SETTLED)
    assert clocked.scan(*after, used=3 * GB, seconds=2 * SETTLED) == []


def test_the_first_idle_period_measures_nothing() -> None:
    assert Clocked().scan(A, used=GB, seconds=3 * SETTLED) == []


def test_a_load_or_unload_in_between_restarts_the_idle_period() -> None:
    clocked = Clocked()
    clocked.scan(A, used=GB, seconds=SETTLED)
    for _ in range(3):
        assert clocked.scan(A, B, used=3 * GB, seconds=SETTLED - 2) == []
        assert clocked.scan(A, B, used=4 * GB, settled=False) == []


def test_an_empty_triton_that_was_never_observed_is_not_idle_yet() -> None:
    """Memory may still include a version that was just unloaded."""
    clocked = Clocked()
    clocked.scan(used=50 * GB)
    clocked.scan(used=GB)
    assert clocked.scan(A, used=2 * GB, seconds=2 * SETTLED) == []


looks = st.lists(
    st.tuples(st.frozensets(st.sampled_from([A, B, C])), st.integers(0, 10), st.booleans(), st.integers(1, 4)),
    max_size=40,
)


@given(looks)
def test_every_measurement_is_the_difference_of_two_idle_periods(
    history: list[tuple[frozenset[tuple[str, int]], int, bool, int]],
) -> None:
    meter, now_s = MemoryMeter(), 1000.0
    since_s: float | None = None
    last: frozenset[tuple[str, int]] | None = None
    rests: list[tuple[frozenset[tuple[str, int]], int]] = []
    for ready, used, settled, later_s in history:
        now_s += later_s
        if not settled or ready != last:
            since_s = now_s
        last = ready
        reported = meter.observe(ready, used, now_s, settled=settled)
        rested = settled and since_s is not None and now_s - since_s >= SETTLE_S
        if reported:
            key, grown = reported
            assert rested
            assert rests[-1] == (ready - {key}, used - grown)
        if rested:
            rests.append((ready, used))


@contextmanager
def server(body: bytes, status: int = 200) -> Iterator[int]:
    """Answers every GET with the same; yields its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
            self.wfile.write(body if self.path == "/metrics" else b"")

        def log_message(self, format: str, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as http:
        thread = Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield http.server_address[1]
        finally:
            http.shutdown()
            thread.join()


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}/metrics"


def test_the_memory_of_all_gpus_of_a_triton_is_in_its_metrics() -> None:
    with server(METRICS.encode()) as port:
        assert _gpu_memory(url(port)) == TWO_GPUS


def test_lines_of_thousands_of_models_in_a_page_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> Iterator[Metric]:
        parsed.append(text)
        return iter(text_string_to_metric_families(text))

    monkeypatch.setattr("controller.placement.predictors.triton_client.text_string_to_metric_families", parse)
    models = "".join(f'nv_inference_count{{model="m{number}",version="1"}} 12\n' for number in range(2000))
    with server((models + METRICS + models).encode()) as port:
        assert _gpu_memory(url(port)) == TWO_GPUS
    assert [text for text in parsed if "nv_inference" in text] == []
    assert parsed


async def test_a_triton_is_asked_at_its_own_host_and_the_port_of_the_metrics() -> None:
    with server(METRICS.encode()) as port:
        triton = TritonClient("127.0.0.1:1", metrics_port=port)
        assert await triton.gpu_memory() == TWO_GPUS
        await triton.close()
        six = TritonClient("[::1]:1", metrics_port=8002)
        assert six._metrics == "http://[::1]:8002/metrics"
        await six.close()
        unasked = TritonClient("127.0.0.1:1")
        assert await unasked.gpu_memory() is None
        await unasked.close()


def test_a_triton_without_gpus_reports_no_memory() -> None:
    text = "".join(line for line in METRICS.splitlines(keepends=True) if "nv_gpu" not in line)
    with server(text.encode()) as port:
        assert _gpu_memory(url(port)) is None


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"no such page", 404),
        (b"<html>another server</html>", 200),
        (b"\xff\xfe\x00", 200),
        (METRICS.encode().replace(b"524288000", b"bytes"), 200),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x7f", 0),  # a gRPC server at that port
        (b"", 0),
    ],
    ids=["not found", "a page", "no text", "no number", "no HTTP", "nothing"],
)
def test_an_answer_that_is_not_metrics_reports_no_memory(body: bytes, status: int) -> None:
    with server(body, status) as port:
        assert _gpu_memory(url(port)) is None


def test_without_a_listener_no_memory_is_reported() -> None:
    with server(b"") as port:
        pass
    assert _gpu_memory(url(port)) is None


async def test_a_budget_that_comes_from_the_gpu_stays_when_its_metrics_do_not_answer(
    models: Path, publish: Publish
) -> None:
    """Otherwise a slow answer of the metrics would remove every limit, and Triton would run out of memory."""
    publish("sales_de")
    triton = FakeTriton()
    harness = PlacementHarness(read(models), triton, gpu_percent=50)
    triton.gpu = GpuMemory(GB, 80 * GB)
    await harness.look()
    assert harness.placement.state.budget(harness.predictor()) == Capacity(bytes=40 * GB)
    triton.gpu = None
    await harness.look()
    assert harness.placement.state.budget(harness.predictor()) == Capacity(bytes=40 * GB)
