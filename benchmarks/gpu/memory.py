"""GPU memory before and after each load: by Triton's metrics, by `nvidia-smi`, and as measured by the controller."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.gpu import load, watch
from benchmarks.gpu.load import PictureTarget
from benchmarks.gpu.systems import Separate
from benchmarks.report import Report

MIB = 1 << 20
POLL_S = 0.5
SHOWN_S = 5.0  # until the controller's metrics show a load
TRITON, CONTROLLER = "nv_gpu_memory_used_bytes", "triptych_predictor_bytes"
DIRECT = build_opener(ProxyHandler({}))


@dataclass(frozen=True)
class MemoryReading:
    """Memory in MiB at one moment by three sources; None if the source has no figure."""

    triton: float | None
    smi: float | None
    controller: float | None


@dataclass(frozen=True)
class Loaded:
    """One load; `seconds` is the time from the first request to its answer."""

    model: str
    seconds: float
    before: MemoryReading
    after: MemoryReading


def measure(system: Separate, models: Sequence[str], picture: bytes, pause_s: float) -> list[Loaded]:
    """Load the models in sequence, with a rest after each in which the controller measures its size."""
    address = system.addresses("preprocess")[0]
    time.sleep(pause_s)
    found, before = [], read_memory(system)
    for model in models:
        start = time.monotonic()
        load.once(address, PictureTarget([address], model, [picture], whole=False))
        seconds = time.monotonic() - start
        _until_other(system, before.controller, SHOWN_S)
        after = _until_other(system, read_memory(system).controller, pause_s)
        found.append(Loaded(model, seconds, before, after))
        before = after
    return found


def _until_other(system: Separate, controller_mib: float | None, limit_s: float) -> MemoryReading:
    """Wait until the controller's figure changes, from an estimate to the measured size; return the last reading."""
    end = time.monotonic() + limit_s
    while (seen := read_memory(system)).controller == controller_mib and time.monotonic() < end:
        time.sleep(POLL_S)
    return seen


def read_memory(system: Separate) -> MemoryReading:
    return MemoryReading(
        _sum(system.metrics_port, TRITON), watch.used_mib(), _sum(system.controller_metrics_port, CONTROLLER)
    )


def _sum(port: int, name: str) -> float | None:
    """Sum of a metric over all its series, in MiB."""
    with DIRECT.open(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        families = text_string_to_metric_families(response.read().decode())
        found = [sample.value for family in families if family.name == name for sample in family.samples]
    return sum(found) / MIB if found else None


def add_to(report: Report, loads: Sequence[Loaded]) -> None:
    head = ["model", "load, s", "by Triton's metrics", "by nvidia-smi", "learned by the controller"]
    rows = [
        [
            *(loaded.model, f"{loaded.seconds:.1f}"),
            *(_grown(getattr(loaded.before, who), getattr(loaded.after, who)) for who in ("triton", "smi")),
            _grown(loaded.before.controller, loaded.after.controller),
        ]
        for loaded in loads
    ]
    report.table("GPU memory, MiB before, after and more", head, rows)
    report.figures("memory", [asdict(loaded) for loaded in loads])


def _grown(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "not reported"
    return f"{before:,.0f}, {after:,.0f}: {after - before:+,.0f}"
