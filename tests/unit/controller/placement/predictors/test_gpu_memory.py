"""The memory of GPUs in Triton's metrics, whatever the server of that port answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from controller.placement.predictors import gpu_memory as module
from controller.placement.predictors.gpu_memory import GpuMemory, gpu_memory
from controller.placement.predictors.triton_client import TritonClient
from triptych.runtime.addresses import join

HERE = "127.0.0.1"

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

OK = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n"


@asynccontextmanager
async def server(*pieces: bytes, forever: bool = False, pause_s: float = 0.0) -> AsyncIterator[int]:
    """Answers every connection with these pieces, once or forever; yields its port."""
    serving = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal serving
        serving += 1
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            while True:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if not forever:
                    break
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        serving -= 1

    listening = await asyncio.start_server(serve, HERE, 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    while serving:  # until it has found that the client is gone
        await asyncio.sleep(0.01)
    await listening.wait_closed()


async def test_the_memory_of_all_gpus_of_a_triton_is_in_its_metrics() -> None:
    async with server(OK, METRICS.encode()) as port:
        assert await gpu_memory(HERE, port) == TWO_GPUS


async def test_lines_of_thousands_of_models_in_a_page_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def parse(text: str) -> Iterator[Metric]:
        parsed.append(text)
        return iter(text_string_to_metric_families(text))

    monkeypatch.setattr(module, "text_string_to_metric_families", parse)
    models = "".join(f'nv_inference_count{{model="m{number}",version="1"}} 12\n' for number in range(2000))
    async with server(OK, (models + METRICS + models).encode()) as port:
        assert await gpu_memory(HERE, port) == TWO_GPUS
    assert [text for text in parsed if "nv_inference" in text] == []
    assert parsed


async def test_a_triton_is_asked_at_its_own_host_and_the_port_of_the_metrics() -> None:
    async with server(OK, METRICS.encode()) as port:
        triton = TritonClient(join(HERE, 1), metrics_port=port)
        assert await triton.gpu_memory() == TWO_GPUS
        await triton.close()
    unasked = TritonClient(join(HERE, 1))
    assert await unasked.gpu_memory() is None
    await unasked.close()


async def test_a_triton_without_gpus_reports_no_memory() -> None:
    text = "".join(line for line in METRICS.splitlines(keepends=True) if "nv_gpu" not in line)
    async with server(OK, text.encode()) as port:
        assert await gpu_memory(HERE, port) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\n\r\n" + METRICS.encode(),
        OK + b"<html>another server</html>",
        OK + b"\xff\xfe\x00",
        OK + METRICS.encode().replace(b"524288000", b"bytes"),
        OK + METRICS.encode().replace(b"524288000", b"NaN"),
        OK + METRICS.encode().replace(b"524288000", b"+Inf"),
        OK + METRICS.encode().replace(b"524288000", b"-1e300"),
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x7f",
        b"HTTP/1.1",
        b"",
    ],
    ids=["not found", "a page", "no text", "no number", "NaN", "infinity", "negative", "gRPC", "no status", "nothing"],
)
async def test_an_answer_that_is_not_metrics_reports_no_memory(answer: bytes) -> None:
    async with server(answer) as port:
        assert await gpu_memory(HERE, port) is None


async def test_without_a_listener_no_memory_is_reported() -> None:
    async with server(b"") as port:
        pass
    assert await gpu_memory(HERE, port) is None


async def test_a_page_without_an_end_is_left_at_its_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's own code can answer in place of Triton."""
    monkeypatch.setattr(module, "MAX_PAGE_BYTES", 1 << 20)
    monkeypatch.setattr(module, "PAGE_S", 60.0)
    async with server(OK, bytes(1 << 16), forever=True) as port:
        assert await gpu_memory(HERE, port) is None


@pytest.mark.parametrize("pieces", [(b"HTTP/1.0 200 OK\r\n", b"X: y\r\n"), (OK, b"x")], ids=["headers", "body"])
async def test_a_page_that_trickles_is_left_at_its_limit_of_time(
    monkeypatch: pytest.MonkeyPatch, pieces: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(module, "PAGE_S", 0.2)
    async with server(*pieces, forever=True, pause_s=0.01) as port:
        assert await gpu_memory(HERE, port) is None
