"""The service of jobs as one more process of `make run`, and a job that is followed part by part."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from local.endpoints import check_free, from_environment
from local.errors import LocalError
from local.health import stage_is_ready
from local.server_process import ServerProcess
from triptych_client import AskError
from triptych_client.jobs import Jobs, PartAnswers

PORTS = {"jobs": (9003, 9103)}
READY_S, STOP_S, POLL_S = 90.0, 30.0, 0.05
ROWS, PART_ROWS = 4_000, 1_000
DOCUMENT = f"""\
apiVersion: triptych.dev/v1
kind: Job
model: sales_forecast_de
read: {{uri: "upload://sales", format: parquet}}
keep: [shop]
limits: {{partRows: {PART_ROWS}}}
"""


@contextmanager
def running_jobs(preprocess: str, run_folder: Path) -> Iterator[ServerProcess]:
    """The service in front of a running stack, with its ledger and objects in the run's folder. Raises `LocalError`."""
    endpoint = from_environment(os.environ, PORTS)["jobs"]
    check_free([endpoint])
    variables = {
        **os.environ,
        **endpoint.variables(),
        "JOBS_LEDGER": f"sqlite:///{run_folder / 'jobs.db'}",
        "JOBS_OBJECTS": str(run_folder / "jobs"),
        "JOBS_PREPROCESS": preprocess,
    }
    log, address = run_folder / "jobs.log", endpoint.address
    process = ServerProcess(
        "jobs", [sys.executable, "-m", "jobs"], variables, address, log, lambda: stage_is_ready(address)
    )
    log.unlink(missing_ok=True)
    process.start()
    try:
        while not process.poll_ready(READY_S):
            time.sleep(POLL_S)
        yield process
    finally:
        process.stop(STOP_S)


def show_job(address: str, show: Callable[[str], None]) -> None:
    """Upload rows, submit a job that reads them, and show the answers as its parts end. Raises `LocalError`."""
    started_s, content = time.monotonic(), _sales()
    try:
        with Jobs(address) as jobs:
            job = jobs.submit(DOCUMENT, files={"sales": content})
            show(f"job: {ROWS:,} rows of sales_forecast_de in a Parquet file of {len(content):,} bytes, uploaded")
            show(f"  {job} accepted after {time.monotonic() - started_s:.1f} s")
            for part in jobs.follow(job):
                show(f"  part {part.part}: {part.rows:,} rows{_first(part)}")
            show(f"  {job} succeeded after {time.monotonic() - started_s:.1f} s\n")
    except AskError as error:
        raise LocalError(f"job: {error}") from None


def _first(part: PartAnswers) -> str:
    """The first answer of a part."""
    row = part.table.slice(0, 1).to_pylist()[0]
    return f", shop {row['shop']} sells {row['total']} in the next 7 days"


def _sales() -> bytes:
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "shop": range(ROWS),
            "history": list(random.integers(0, 50, (ROWS, 28)).astype(np.float32)),
            "price": list(random.integers(4, 40, (ROWS, 7)).astype(np.float32) / 4),
            "promotion": list(random.random((ROWS, 7)) > 0.7),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
