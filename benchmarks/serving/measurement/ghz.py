"""Load by `ghz`, which continues after refusals and sends many different requests. It is built with Go.

`perf_analyzer` stops at the first error and calls one model per run, so overload and many models are measured with ghz.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

from benchmarks.serving.measurement.answers import SERVICE
from benchmarks.serving.workloads import Arrays, tensor_specs
from local.environments import cache_folder, locked
from local.errors import LocalError
from triptych.datatypes import Array
from triptych.protocol.tensors import to_raw

VERSION = "v0.120.0"
MODULE = "github.com/bojand/ghz/cmd/ghz"
BUILD_TIMEOUT_S = 900.0
RUN_TIMEOUT_S = 120.0
CONNECTIONS = 4


@dataclass(frozen=True)
class GhzResult:
    """All requests of one run: send time, latency and status of each. Good means OK within the deadline."""

    sent_s: Array
    took_s: Array
    status: Sequence[str]
    cpu_s: float
    deadline_s: float

    @property
    def offered(self) -> float:
        """Requests/s actually sent."""
        return len(self.sent_s) / float(np.ptp(self.sent_s) or 1.0)

    @property
    def rate(self) -> float:
        """Good answers/s, from the first sending to the last answer."""
        return int(self.good.sum()) / float((self.sent_s + self.took_s).max() - self.sent_s.min())

    @property
    def good(self) -> Array:
        return np.array([status == "OK" for status in self.status]) & (self.took_s <= self.deadline_s)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.status)

    def ms(self, percentile: float, which: Array) -> float:
        """Latency percentile in milliseconds of the selected requests; NaN if there are none."""
        return 1000 * float(np.percentile(self.took_s[which], percentile)) if which.any() else float("nan")


def ensure_ghz() -> Path:
    """Path of ghz: on PATH, or built into the cache. Raises `LocalError` if there is no Go."""
    folder = cache_folder() / f"ghz-{VERSION}"
    found = shutil.which("ghz") or shutil.which("ghz", path=str(folder))
    if found:
        return Path(found)
    with locked("ghz"):
        return folder / "ghz" if (folder / "ghz").exists() else _build(folder)


def _build(folder: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise LocalError("ghz is not on PATH, and there is no Go to build it with")
    print(f"building ghz {VERSION} in {folder} (once)", file=sys.stderr, flush=True)
    draft = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=cache_folder()))
    command = [go, "install", f"{MODULE}@{VERSION}"]
    variables = {**os.environ, "GOBIN": str(draft)}
    try:
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        if done.returncode:
            raise LocalError(f"ghz could not be built: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / "ghz"


def write_protoset(file: Path) -> Path:
    """Write the protocol as descriptors, since most of the servers have no reflection."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    file.write_bytes(files.SerializeToString())
    return file


def message(model: str, tensors: Arrays, route: str = "") -> dict[str, Any]:
    """A ModelInferRequest in protobuf's JSON format."""
    made: dict[str, Any] = {
        "modelName": model,
        "inputs": [
            {"name": name, "datatype": datatype, "shape": [str(each) for each in tensors[name].shape]}
            for name, datatype, _ in tensor_specs(tensors)
        ],
        "rawInputContents": [base64.b64encode(to_raw(array)).decode() for array in tensors.values()],
    }
    if route:
        made["parameters"] = {"route": {"stringParam": route}}
    return made


def write_messages(messages: Iterable[dict[str, Any]], file: Path) -> Path:
    """Write the messages that ghz sends in turn, repeatedly."""
    file.write_text(json.dumps(list(messages)))
    return file


def shoot(address: str, data: Path, protoset: Path, total: int, words: Sequence[str], timeout_s: float) -> GhzResult:
    """Run ghz. `words` set the rate: `--concurrency 64`, or `--rps 500 --async`. Raises `LocalError`."""
    report = data.with_suffix(".ghz.json")
    command = [
        *(str(ensure_ghz()), "--insecure", "--protoset", str(protoset), "--call", f"{SERVICE}.ModelInfer"),
        *("--data-file", str(data), "--total", str(total), "--timeout", f"{round(1000 * timeout_s)}ms"),
        *("--disable-template-functions", "--disable-template-data"),  # else ghz renders each message anew
        *("--connections", str(CONNECTIONS), "--format", "json", "--output", str(report), *words, address),
    ]
    before = os.times()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise LocalError(f"{address}: ghz came to no end within {RUN_TIMEOUT_S:.0f} s") from None
    after = os.times()
    if done.returncode or not report.exists():
        raise LocalError(f"{address}: ghz ended with {done.returncode}: {(done.stderr or done.stdout).strip()[:300]}")
    cpu_s = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return read(json.loads(report.read_text()), cpu_s, timeout_s)


def read(report: dict[str, Any], cpu_s: float, deadline_s: float) -> GhzResult:
    """Parse ghz's details: `timestamp` is the time of the answer, `latency` is in nanoseconds."""
    details = report["details"] or []
    if not details:
        raise LocalError("ghz sent nothing")
    took = np.array([each["latency"] for each in details]) / 1e9
    ended = np.array([datetime.fromisoformat(each["timestamp"]).timestamp() for each in details])
    return GhzResult(ended - took, took, [each["status"] for each in details], cpu_s, deadline_s)
