"""The controller's own work: thousands of models over many simulated predictors that speak the real protocol."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from grpc import aio

from benchmarks import processes
from benchmarks.model_folders import name_of, number_of, publish
from benchmarks.report import Report
from examples.models.progress import TaskProgress
from local.errors import LocalError
from local.health import stage_is_ready
from local.server_process import ServerProcess
from triptych.protocol import controller_pb2 as cp

HELP = "the controller's memory, CPU and decisions with 5,000 models over 20 simulated predictors"
TITLE = "The controller's own work"

PREFIX = "/triptych.v1.Controller/"
CALL_S = 60.0
READY_S = 600.0
FILLERS = 40  # callers at once while the slots are filled
WARM_CALLS = 300
UNBOUNDED = [("grpc.max_receive_message_length", -1)]


@dataclass
class ControllerUnderTest:
    """The controller under test, with its settings and its watchers."""

    controller: ServerProcess
    predictors: int
    ready_s: float
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadCall:
    """One EnsureLoaded: its duration, and its error."""

    seconds: float
    error: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", type=int, default=5_000, help="models in the repository")
    parser.add_argument("--predictors", type=int, default=20, help="simulated predictors")
    parser.add_argument("--slots", type=int, default=50, help="versions in each predictor at most")
    parser.add_argument(
        "--watchers", type=int, default=10, help="streams that follow the catalog: replicas of preprocess"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="cold requests per second")
    parser.add_argument("--seconds", type=float, default=60.0, help="of cold requests")
    parser.add_argument("--idle-s", type=float, default=60.0, help="with nothing changing")
    parser.add_argument("--load-s", type=float, default=0.05, help="that a simulated load takes")
    parser.add_argument("--profile", action="store_true", help="run the controller under cProfile; it costs much")


def main(given: argparse.Namespace, report: Report) -> None:
    """Start, fill the slots, measure it idle, send cold requests."""
    with tempfile.TemporaryDirectory(prefix="triptych-control-plane-") as folder:
        scene_folder = Path(folder)
        progress = TaskProgress()
        progress.begin(f"control-plane: {given.models} model folders")
        publish(scene_folder / "models", given.models)
        progress.begin(f"control-plane: {given.predictors} simulated predictors")
        with (
            _simulated(scene_folder / "models", given) as addresses,
            _controller(scene_folder, addresses, given) as part,
        ):
            progress.begin("control-plane: the controller gets ready")
            under_test = ControllerUnderTest(part, given.predictors, _wait_ready(part))
            progress.end()
            asyncio.run(_measure(under_test, given, progress))
    _report(under_test, given, report)


async def _measure(under_test: ControllerUnderTest, given: argparse.Namespace, progress: TaskProgress) -> None:
    figures, pid = under_test.figures, under_test.controller.pid
    figures["ready_s"], figures["ready_cpu_s"] = under_test.ready_s, processes.cpu_s(pid)
    figures["memory_ready_mib"] = processes.uss_mib(pid)
    async with aio.insecure_channel(under_test.controller.address, options=UNBOUNDED) as channel:
        figures["snapshot_bytes"], figures["snapshot_s"] = await _snapshot(channel)
        rng = np.random.default_rng(1)
        order = [int(number) for number in rng.permutation(given.models)]
        progress.begin("control-plane: the slots are filled")
        filled = await _fill(channel, order[: given.predictors * given.slots])
        figures["fill_failed"] = sum(bool(call.error) for call in filled)
        watchers = [asyncio.create_task(_watch(under_test.controller.address)) for _ in range(given.watchers)]
        await asyncio.sleep(5)  # until evictions for headroom have ended
        progress.begin(f"control-plane: {given.idle_s:g} s of nothing")
        figures["idle_cores"] = await _cores(pid, given.idle_s)
        progress.begin("control-plane: requests for what is loaded")
        figures["warm"] = _summary([await _ensure(channel, number) for number in await _loaded(channel)])
        progress.begin(f"control-plane: {given.seconds:g} s of cold requests")
        before, start = processes.cpu_s(pid), time.perf_counter()
        calls = await _stream(channel, _cold(order, given), given.rate)
        used_s = processes.cpu_s(pid) - before
        figures["busy_cores"] = used_s / (time.perf_counter() - start)
        figures["cpu_ms_per_load"] = 1000 * used_s / len(calls)
        figures["cold"] = _summary(calls)
        figures["beyond_load"] = _summary([LoadCall(call.seconds - given.load_s, call.error) for call in calls])
        figures["memory_end_mib"] = processes.uss_mib(pid)
        figures["updates_per_watcher"] = await _ended(watchers)
        progress.end()


def _cold(order: list[int], given: argparse.Namespace) -> list[int]:
    """Models that are not loaded, as many as the stream needs."""
    rest = order[given.predictors * given.slots :]
    count = int(given.rate * given.seconds)
    if len(rest) < count:
        raise LocalError(f"want {count} models beside those that fill the slots, got {len(rest)}; take fewer seconds")
    return rest[:count]


async def _fill(channel: aio.Channel, numbers: Sequence[int]) -> list[LoadCall]:
    """As fast as the predictors load."""
    gate = asyncio.Semaphore(FILLERS)

    async def one(number: int) -> LoadCall:
        async with gate:
            return await _ensure(channel, number)

    return await asyncio.gather(*(one(number) for number in numbers))


async def _stream(channel: aio.Channel, numbers: Sequence[int], rate: float) -> list[LoadCall]:
    """Open loop: a request is sent when it is due, independent of those before it."""
    due = np.cumsum(np.random.default_rng(2).exponential(1 / rate, len(numbers)))
    start, running = time.perf_counter(), []
    for number, at in zip(numbers, due, strict=True):
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        running.append(asyncio.create_task(_ensure(channel, number)))
    return await asyncio.gather(*running)


async def _ensure(channel: aio.Channel, number: int) -> LoadCall:
    method: Any = channel.unary_unary(
        f"{PREFIX}EnsureLoaded",
        request_serializer=cp.EnsureLoadedRequest.SerializeToString,
        response_deserializer=cp.EnsureLoadedReply.FromString,
    )
    start = time.perf_counter()
    try:
        await method(cp.EnsureLoadedRequest(model=name_of(number), version=1), timeout=CALL_S)
    except aio.AioRpcError as error:
        return LoadCall(time.perf_counter() - start, f"{error.code().name}: {error.details()}")
    return LoadCall(time.perf_counter() - start)


async def _loaded(channel: aio.Channel) -> list[int]:
    """Models that are ready somewhere at this moment, some of them."""
    method: Any = channel.unary_unary(
        f"{PREFIX}Describe",
        request_serializer=cp.DescribeRequest.SerializeToString,
        response_deserializer=cp.DescribeReply.FromString,
    )
    reply: cp.DescribeReply = await method(cp.DescribeRequest(), timeout=CALL_S)
    return [number_of(loaded.model) for loaded in reply.loaded_models][:WARM_CALLS]


async def _snapshot(channel: aio.Channel) -> tuple[int, float]:
    """Bytes of the first message of a stream, and the seconds until it is there."""
    method: Any = channel.unary_stream(f"{PREFIX}Watch", request_serializer=cp.WatchRequest.SerializeToString)
    start = time.perf_counter()
    stream = method(cp.WatchRequest())
    size = len(await stream.read())
    seconds = time.perf_counter() - start
    stream.cancel()
    return size, seconds


async def _watch(address: str) -> int:
    """Follows the catalog until cancelled; returns the number of messages."""
    messages = 0
    async with aio.insecure_channel(address, options=[*UNBOUNDED, ("grpc.use_local_subchannel_pool", 1)]) as channel:
        method: Any = channel.unary_stream(f"{PREFIX}Watch", request_serializer=cp.WatchRequest.SerializeToString)
        try:
            async for _ in method(cp.WatchRequest()):
                messages += 1
        except asyncio.CancelledError:
            pass
    return messages


async def _ended(watchers: list[asyncio.Task[int]]) -> float:
    for task in watchers:
        task.cancel()
    return float(np.mean(await asyncio.gather(*watchers))) if watchers else 0.0


async def _cores(pid: int, seconds: float) -> float:
    """Cores that the process used on average."""
    before, start = processes.cpu_s(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (processes.cpu_s(pid) - before) / (time.perf_counter() - start)


@contextmanager
def _simulated(models: Path, given: argparse.Namespace) -> Iterator[list[str]]:
    words = ["--models", str(models), "--count", str(given.predictors), "--load-s", str(given.load_s)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.placement.simulated", *words], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        addresses = [process.stdout.readline().strip() for _ in range(given.predictors)]
        if not all(addresses):
            raise LocalError("the simulated predictors did not start")
        yield addresses
    finally:
        process.kill()
        process.wait()


@contextmanager
def _controller(folder: Path, addresses: list[str], given: argparse.Namespace) -> Iterator[ServerProcess]:
    port = processes.free_port()
    variables = {
        "CONTROLLER_PORT": str(port),
        "CONTROLLER_METRICS_PORT": str(processes.free_port()),
        "CONTROLLER_MODEL_REPOSITORY": str(folder / "models"),
        "CONTROLLER_TRITON": ",".join(addresses),
        "CONTROLLER_TRITON_METRICS_PORT": "0",
        "CONTROLLER_MAX_MODELS": str(given.slots),
        "CONTROLLER_IDLE_TTL_S": "0",
        "CONTROLLER_LOG_LEVEL": "WARNING",
    }
    log = Path(tempfile.gettempdir()) / "triptych-control-plane.log"
    profile = ["-m", "cProfile", "-o", str(log.with_suffix(".profile"))] if given.profile else []
    part = ServerProcess(
        name="controller",
        command=[sys.executable, *profile, "-m", "controller"],
        environment={**os.environ, **variables},
        address=f"127.0.0.1:{port}",
        log=log,
        is_ready=lambda: stage_is_ready(f"127.0.0.1:{port}"),
    )
    part.log.unlink(missing_ok=True)
    part.start()
    try:
        yield part
    finally:
        part.stop(30.0)


def _wait_ready(part: ServerProcess) -> float:
    while not part.poll_ready(READY_S):
        time.sleep(0.05)
    return part.uptime_s()


def _summary(calls: Sequence[LoadCall]) -> dict[str, Any]:
    """Milliseconds of successful calls, and errors of the others."""
    good = np.array([1000 * call.seconds for call in calls if not call.error])
    errors = sorted({call.error for call in calls if call.error})
    if not len(good):
        return {"calls": len(calls), "failed": len(calls), "errors": errors[:3]}
    p50, p90, p99 = np.percentile(good, [50, 90, 99])
    return {
        "calls": len(calls),
        "failed": len(calls) - len(good),
        "errors": errors[:3],
        "p50_ms": round(float(p50), 2),
        "p90_ms": round(float(p90), 2),
        "p99_ms": round(float(p99), 2),
        "most_ms": round(float(good.max()), 2),
        "sorted_ms": [round(float(each), 2) for each in np.sort(good)],
    }


def _report(under_test: ControllerUnderTest, given: argparse.Namespace, report: Report) -> None:
    figures = under_test.figures
    beyond, warm = figures["beyond_load"], figures["warm"]
    unanswered = beyond["failed"] + warm["failed"] + figures["fill_failed"]
    rows = [
        ["from start to ready", f"{figures['ready_s']:.1f} s", ""],
        ["CPU from start to ready", f"{figures['ready_cpu_s']:.1f} s", ""],
        ["memory (USS) when ready", f"{figures['memory_ready_mib']:.0f} MiB", ""],
        ["memory (USS) at the end", f"{figures['memory_end_mib']:.0f} MiB", "< 300 MB"],
        ["CPU when nothing changes", f"{figures['idle_cores']:.3f} cores", "< 0.1"],
        [f"CPU with {given.rate:g} loads and unloads/s", f"{figures['busy_cores']:.3f} cores", ""],
        ["a load's decision, p50", f"{beyond['p50_ms']:.1f} ms", ""],
        ["a load's decision, p99", f"{beyond['p99_ms']:.1f} ms", "< 10 ms"],
        ["CPU of the controller for a load and an unload", f"{figures['cpu_ms_per_load']:.1f} ms", ""],
        ["asking for what is loaded, p50", f"{warm['p50_ms']:.1f} ms", ""],
        ["asking for what is loaded, p99", f"{warm['p99_ms']:.1f} ms", "< 10 ms"],
        ["first message of a stream", f"{figures['snapshot_bytes'] / 1000:.0f} kB", ""],
        ["until it is there", f"{1000 * figures['snapshot_s']:.0f} ms", ""],
        ["calls that were not answered", str(unanswered), "0"],
    ]
    title = f"{given.models} models on {given.predictors} predictors of {given.slots} slots, {given.watchers} watchers"
    report.table(title, ["what", "measured", "goal"], rows)
    report.text(
        f"A load's decision is the time of `EnsureLoaded` without the {1000 * given.load_s:g} ms that the simulated "
        f"Triton takes: the choice of the predictor and the victim, the calls, and the check that it is ready. "
        f"Every model asked for was cold and every slot taken."
    )
    report.figures("control_plane", figures)
    _draw(report, figures)


def _draw(report: Report, figures: dict[str, Any]) -> None:
    from benchmarks import plots

    figure, (axis,) = plots.panels(1, 6.0, 3.6)
    for name, key, colour in (
        ("load's decision", "beyond_load", plots.COLOURS[0]),
        ("asking for what is loaded", "warm", plots.COLOURS[2]),
    ):
        values = figures[key]["sorted_ms"]
        axis.plot(values, 100 * (np.arange(len(values)) + 1) / len(values), color=colour, label=name)
    axis.axvline(10, color=plots.COLOURS[1], ls="--", lw=1, label="goal, 99 %")
    axis.set_xscale("log")
    axis.legend(frameon=False, fontsize=8)
    plots.dress(axis, "How long the controller takes", "ms", "share of calls, %")
    plots.save(figure, report.plot("decisions.png", "how long a decision takes"))
