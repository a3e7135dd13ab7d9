"""The service of jobs as one more process of `make run`, and a job that is followed part by part."""

from __future__ import annotations

import io
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from local.endpoints import check_free, from_environment
from local.errors import LocalError
from local.health import stage_is_ready
from local.server_process import ServerProcess
from triptych.protocol import jobs_pb2 as jp

PORTS = {"jobs": (9003, 9103)}
READY_S, ANSWER_S, STOP_S, POLL_S = 30.0, 120.0, 30.0, 0.05
ROWS, PART_ROWS, PIECE_BYTES = 4_000, 1_000, 256 << 10
DOCUMENT = f"""\
apiVersion: triptych.dev/v1
kind: Job
model: sales_forecast_de
read: {{uri: "upload://NAME", format: parquet}}
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
    name, started_s = uuid.uuid4().hex, time.monotonic()
    content = _sales()
    with grpc.insecure_channel(address) as channel:
        try:
            stub = _Stub(channel)
            stub.upload(name, content)
            show(f"job: {ROWS:,} rows of sales_forecast_de in a Parquet file of {len(content):,} bytes, uploaded")
            job = stub.submit(DOCUMENT.replace("NAME", name), name)
            show(f"  {job} accepted after {time.monotonic() - started_s:.1f} s")
            for reply in stub.follow(job):
                if reply.state:
                    if reply.state != "succeeded":
                        raise LocalError(f"{job} has {reply.state}: {reply.error}")
                    show(f"  {job} succeeded after {time.monotonic() - started_s:.1f} s\n")
                elif reply.position:
                    show(f"  part {reply.part}: {reply.rows:,} rows{_first(reply.content)}")
        except grpc.RpcError as error:
            failed: Any = error
            raise LocalError(f"job: {failed.code().name}: {failed.details()}") from None


class _Stub:
    """Calls of `triptych.v1.Jobs`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def upload(self, name: str, content: bytes) -> None:
        call = self._method("stream_unary", "Upload", jp.UploadReply)
        call(_pieces(name, content), timeout=ANSWER_S)

    def submit(self, document: str, upload: str) -> str:
        request = jp.SubmitRequest(request_id=upload, document=document, uploads=[upload])
        return str(self._method("unary_unary", "Submit", jp.SubmitReply)(request, timeout=ANSWER_S).name)

    def follow(self, job: str) -> Iterator[jp.FollowReply]:
        call = self._method("unary_stream", "Follow", jp.FollowReply)
        replies: Iterator[jp.FollowReply] = call(jp.FollowRequest(name=job), timeout=ANSWER_S)
        return replies

    def _method(self, kind: str, name: str, reply: Any) -> Any:
        return getattr(self._channel, kind)(
            f"/triptych.v1.Jobs/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=reply.FromString,
        )


def _pieces(name: str, content: bytes) -> Iterator[jp.UploadRequest]:
    for offset in range(0, len(content), PIECE_BYTES):
        piece = content[offset : offset + PIECE_BYTES]
        yield jp.UploadRequest(
            upload=name,
            offset=offset,
            content=piece,
            crc32c=google_crc32c.value(piece),
            end=offset + len(piece) == len(content),
        )


def _first(content: bytes) -> str:
    """The first answer of a part."""
    batch = next(iter(pa.ipc.open_stream(content)))
    return f", shop {batch.column('shop')[0]} sells {batch.column('total')[0]} in the next 7 days"


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
