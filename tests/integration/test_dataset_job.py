"""A job on an upload, by the real chain: submitted, followed, and answered as the model's folder answers."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from grpc import aio

from jobs.server import build
from jobs.settings import Settings
from local.stack import MODEL_REPOSITORY, LocalStack
from tests.integration.jobs.running_jobs import RunningJobs
from tests.tables import sales_table
from triptych.protocol import jobs_pb2 as jp
from triptych.server.lifecycle import shut_down
from triptych_client import Ask

ROWS, PART_ROWS = 1_000, 300
DOCUMENT = """\
apiVersion: triptych.dev/v1
kind: Job
model: sales_forecast_de
read: {uri: "upload://sales", format: parquet}
keep: [shop]
limits: {partRows: 300}
"""


@pytest.fixture
async def jobs(stack: LocalStack, tmp_path: Path) -> AsyncIterator[RunningJobs]:
    """The service with workers of its own, in front of the real chain."""
    settings = Settings(
        port=0,
        metrics_port=0,
        drain_s=0,
        ledger=f"sqlite:///{tmp_path}/jobs.db",
        objects=str(tmp_path / "objects"),
        preprocess=stack.address("preprocess"),
        predict_retry_s=5,
    )
    service = await build(settings)
    await service.server.open()
    async with aio.insecure_channel(f"127.0.0.1:{service.server.port}") as channel:
        await service.start()
        await service.server.set_ready(True)
        yield RunningJobs(service, channel, settings)
    await shut_down(service, settings)


async def upload(jobs: RunningJobs, name: str, content: bytes, piece: int = 20_000) -> None:
    def requests() -> Iterator[jp.UploadRequest]:
        for start in range(0, len(content), piece):
            some = content[start : start + piece]
            end = start + piece >= len(content)
            crc32c = google_crc32c.value(some)
            yield jp.UploadRequest(upload=name, offset=start, content=some, crc32c=crc32c, end=end)

    reply = await jobs.Upload(requests(), timeout=60)
    assert (reply.bytes, reply.complete) == (len(content), True)


async def answers(jobs: RunningJobs, name: str) -> tuple[str, Any]:
    """The last message's state, with its error, and all answers in the order of the parts."""
    replies = await jobs.follow(name, in_order=True)
    contents: list[bytes] = []
    continues = False
    for reply in replies[:-1]:
        if continues:
            contents[-1] += reply.content
        else:
            contents.append(reply.content)
        continues = reply.more
    tables = [pa.ipc.open_stream(content).read_all() for content in contents]
    last = replies[-1]
    return f"{last.state} {last.error}".strip(), pa.concat_tables(tables) if tables else None


def parquet(table: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


async def test_an_upload_is_answered_in_parts_as_by_the_folder(jobs: RunningJobs) -> None:
    table = sales_table(ROWS)
    await upload(jobs, "sales", parquet(table))
    state, found = await answers(jobs, await jobs.submit(DOCUMENT, uploads=["sales"]))
    assert state == "succeeded"
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, version=1, keep=["shop"], max_rows=PART_ROWS) as ask:
        wanted = ask(table)
    assert found.select(["shop", "units", "total"]).equals(wanted.combine_chunks())
    assert found.column("triptych_row").to_pylist() == list(range(ROWS))
    assert set(found.column("triptych_file").to_pylist()) == {"upload://sales"}
    assert set(found.column("triptych_version").to_pylist()) == {1}


async def test_bad_rows_are_kept_with_their_place_and_sentence(jobs: RunningJobs) -> None:
    rows = [{"history": [1.0] * 28, "price": [2.0] * 7, "promotion": [False] * 7, "shop": str(row)} for row in range(9)]
    rows[4]["history"] = [-1.0] * 28  # which the contract refuses
    lines = [json.dumps(row) for row in rows]
    lines[6] = "no JSON"
    await upload(jobs, "shops", "\r\n".join(lines).encode())
    document = DOCUMENT.replace("upload://sales", "upload://shops").replace("parquet", "jsonl") + "onBadRows: keep\n"
    state, found = await answers(jobs, await jobs.submit(document, uploads=["shops"]))
    assert state == "succeeded"
    errors = {row["triptych_row"]: row["error"] and row["error"]["code"] for row in found.to_pylist()}
    assert errors == {row: "INVALID_ARGUMENT" if row in (4, 6) else None for row in range(9)}
    assert sum(total is None for total in found.column("total").to_pylist()) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("kind: Job", "kind: Batch"), "job:2: kind: want 'Job'"),
        (("keep:", "keeps:"), "job:5: keeps:"),
        (("model: sales_forecast_de\n", ""), "job:1: model"),
    ],
)
async def test_a_wrong_document_is_refused_at_once_by_its_line(
    jobs: RunningJobs, change: tuple[str, str], says: str
) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await jobs.submit(DOCUMENT.replace(*change))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in (refused.value.details() or "")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("upload://sales", "/etc/passwd"), "want one of the schemes upload, got file"),
        (("upload://sales", "s3://bucket/key"), "want one of the schemes upload, got s3"),
        (("upload://sales", "upload://../sales"), "upload://"),
        (("upload://sales", "upload://none"), "no complete upload"),
        (("sales_forecast_de", "sales_forecast_xx"), "sales_forecast_xx"),
    ],
)
async def test_a_job_that_cannot_be_planned_fails_with_a_sentence(
    jobs: RunningJobs, change: tuple[str, str], says: str
) -> None:
    await upload(jobs, "sales", parquet(sales_table(10)))
    state, found = await answers(jobs, await jobs.submit(DOCUMENT.replace(*change)))
    assert state.startswith("failed")
    assert says in state
    assert found is None
