"""The API of jobs by a client of grpcio, on both of our servers."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import google_crc32c
import grpc
import psutil
import pytest
from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from jobs.uploads import SEGMENT_BYTES, expire_uploads
from tests.integration.jobs.doubling import Doubling, document
from tests.integration.jobs.running_jobs import RunningJobs, running_jobs, worker_beside
from triptych.protocol import jobs_pb2 as jp

NOT_FOUND, INVALID, FULL = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


@pytest.fixture(params=["http2", "grpcio"])
async def system(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningJobs]:
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db", server=request.param) as running:
        yield running


async def refused(call: Any, code: grpc.StatusCode, text: str) -> None:
    with pytest.raises(aio.AioRpcError, match=text) as found:
        await call
    assert found.value.code() is code, found.value.details()


def answers(replies: Iterable[jp.FollowReply]) -> dict[str, int]:
    """The answers of all parts, each of which is in one message."""
    found: dict[str, int] = {}
    for reply in replies:
        if reply.content:
            found |= json.loads(reply.content)["answers"]
    return found


# Jobs.


async def test_job_is_submitted_followed_and_done(system: RunningJobs) -> None:
    name = await system.submit(document(4))
    assert await system.submit(document(4)) == name  # again: the same job
    followed = asyncio.create_task(system.follow(name))
    async with worker_beside(system):
        operation = await system.operation(name)
        replies = await followed
    assert answers(replies) == {str(row): 2 * row for row in range(12)}
    assert [reply.position for reply in replies] == [1, 2, 3, 4, 4]
    assert (replies[-1].state, sum(reply.rows for reply in replies)) == ("succeeded", 12)
    metadata, result = jp.JobMetadata(), jp.JobResult()
    assert operation.metadata.Unpack(metadata)
    assert operation.response.Unpack(result)
    assert (metadata.state, metadata.parts, metadata.committed, metadata.model) == ("succeeded", 4, 4, "doubling")
    assert (result.rows, result.manifest.startswith(f"{name}/manifest.")) == (12, True)
    assert not operation.HasField("error")


async def test_first_answers_come_while_the_job_runs(system: RunningJobs) -> None:
    work = Doubling()
    work.permits = asyncio.Semaphore(1)
    name = await system.submit(document(3))
    stream = aiter(system.Follow(jp.FollowRequest(name=name, in_order=True), timeout=60))
    async with worker_beside(system, work):
        first = await anext(stream)
        assert (first.part, first.position) == (1, 1)
        assert not (await system.GetOperation(lro.GetOperationRequest(name=name), timeout=60)).done
        for _ in range(2):
            work.permits.release()
        assert [reply.part async for reply in stream] == [2, 3, 0]


@pytest.mark.parametrize("in_order", [True, False])
async def test_following_is_resumed_from_each_position(system: RunningJobs, in_order: bool) -> None:
    name = await system.submit(document(3))
    async with worker_beside(system):
        await system.operation(name)
    replies = await system.follow(name, in_order=in_order)
    for position in range(4):
        assert await system.follow(name, position, in_order=in_order) == replies[position:]


async def test_large_part_comes_in_many_messages(system: RunningJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.api.follow.CONTENT_BYTES", 50)
    name = await system.submit(document(1, rows=30))
    async with worker_beside(system):
        await system.operation(name)
    *pieces, last, end = await system.follow(name)
    assert len(pieces) > 5
    assert all(piece.more and not piece.position and len(piece.content) == 50 for piece in pieces)
    assert (last.more, last.position, end.state) == (False, 1, "succeeded")
    whole = json.loads(b"".join(piece.content for piece in [*pieces, last]))
    assert len(whole["answers"]) == 30


async def test_failed_job_says_why(system: RunningJobs) -> None:
    name = await system.submit(document(2, refused=3))
    async with worker_beside(system):
        operation = await system.operation(name)
        replies = await system.follow(name)
    sentence = "part 2 failed: column 'price': want FP32, got text"
    assert (operation.error.code, operation.error.message) == (grpc.StatusCode.ABORTED.value[0], sentence)
    assert (replies[0].part, replies[-1].state, replies[-1].error) == (1, "failed", sentence)


async def test_job_is_cancelled_listed_and_deleted(system: RunningJobs) -> None:
    name, other = await system.submit(document(2)), await system.submit(document(2), "other")
    await system.CancelOperation(lro.CancelOperationRequest(name=name), timeout=60)
    operation = await system.GetOperation(lro.GetOperationRequest(name=name), timeout=60)
    assert (operation.done, operation.error.code) == (True, grpc.StatusCode.CANCELLED.value[0])
    listed = await system.ListOperations(lro.ListOperationsRequest(page_size=1), timeout=60)
    rest = await system.ListOperations(lro.ListOperationsRequest(page_token=listed.next_page_token), timeout=60)
    assert [each.name for each in (*listed.operations, *rest.operations)] == [other, name]
    only = await system.ListOperations(lro.ListOperationsRequest(filter="state=cancelled"), timeout=60)
    assert [each.name for each in only.operations] == [name]
    await refused(
        system.DeleteOperation(lro.DeleteOperationRequest(name=other), timeout=60), INVALID, "cancel it before"
    )
    await system.DeleteOperation(lro.DeleteOperationRequest(name=name), timeout=60)
    await refused(system.GetOperation(lro.GetOperationRequest(name=name), timeout=60), NOT_FOUND, "unknown job")


async def test_wait_ends_with_its_timeout(system: RunningJobs) -> None:
    name = await system.submit(document(1))
    request = lro.WaitOperationRequest(name=name, timeout=Duration(nanos=1_000_000))
    assert not (await system.WaitOperation(request, timeout=60)).done


async def test_wrong_requests_are_refused(system: RunningJobs) -> None:
    get, following = lro.GetOperationRequest, jp.FollowRequest
    await refused(system.GetOperation(get(name="x"), timeout=60), INVALID, "as in 'jobs/0123abcd', got 'x'")
    await refused(system.GetOperation(get(name="jobs/x"), timeout=60), NOT_FOUND, "unknown job 'x'")
    await refused(system.Follow(following(name="jobs/x"), timeout=60).read(), NOT_FOUND, "unknown job 'x'")
    await refused(system.Follow(following(name="jobs/x", position=1 << 63), timeout=60).read(), INVALID, "position")
    await refused(system.ListOperations(lro.ListOperationsRequest(filter="x"), timeout=60), INVALID, "want no filter")
    await refused(
        system.ListOperations(lro.ListOperationsRequest(name="x"), timeout=60), INVALID, "want the name 'jobs'"
    )
    await refused(system.ListOperations(lro.ListOperationsRequest(page_token="x"), timeout=60), INVALID, "page token")
    await refused(system.submit("{}", ""), INVALID, "want a request id")
    await refused(system.submit("{}", keep_s=float("nan")), INVALID, "want a time to keep")
    await system.submit("{}")
    await refused(system.submit("[]"), INVALID, "with another content; want a new request id")
    await refused(system.submit("{}", "new", uploads=["none"]), INVALID, "upload 'none' is not complete: 0 bytes")


# Uploads.


def message(offset: int, content: bytes, **fields: Any) -> jp.UploadRequest:
    fields = {"upload": "u", "crc32c": google_crc32c.value(content)} | fields
    return jp.UploadRequest(offset=offset, content=content, **fields)


async def upload(system: RunningJobs, *messages: jp.UploadRequest) -> jp.UploadReply:
    async def sent() -> AsyncIterator[jp.UploadRequest]:
        for each in messages:
            yield each

    return await system.Upload(sent(), timeout=60)  # type: ignore[no-any-return]


async def stored(system: RunningJobs, name: str = "u") -> bytes:
    sizes = await system.objects.sizes(f"uploads/{name}")
    names = sorted(each for each in sizes if not each.endswith("complete"))
    return b"".join([await system.objects.get(each) for each in names])


async def test_upload_is_resumed_by_another_call(system: RunningJobs) -> None:
    assert await upload(system, message(0, b"abc"), message(3, b"de")) == jp.UploadReply(upload="u", bytes=5)
    assert (await system.GetUpload(jp.GetUploadRequest(upload="u"), timeout=60)).bytes == 5
    await refused(system.submit("{}", uploads=["u"]), INVALID, "upload 'u' is not complete: 5 bytes are there")
    ended = await upload(system, message(5, b"f", end=True))
    assert ended == jp.UploadReply(upload="u", bytes=6, complete=True)
    assert await stored(system) == b"abcdef"
    await system.submit("{}", uploads=["u"])
    await refused(upload(system, message(6, b"g")), INVALID, "upload 'u' is complete with 6 bytes")


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([message(1, b"a")], "upload 'u': want offset 0, got 1"),
        ([message(0, b"ab"), message(1, b"b")], "want offset 2, got 1"),
        ([message(0, b"ab"), message(3, b"d")], "want offset 2, got 3"),
        ([message(0, b"123456789", crc32c=1)], "want crc32c e3069283, got 00000001; send them again"),
        ([message(0, b"a", upload="")], "want the name of an upload"),
        ([message(0, b"a", upload="../x")], r"got '../x'"),
        ([message(0, b"a"), message(1, b"b", upload="v")], "got two names"),
        ([message(0, b"a", end=True), message(1, b"b")], "no message behind the one that ends"),
        ([], "want at least one message"),
    ],
)
async def test_wrong_uploads_are_refused(system: RunningJobs, messages: list[jp.UploadRequest], sentence: str) -> None:
    await refused(upload(system, *messages), INVALID, sentence)
    assert await upload(system, message(0, b"good", end=True)) == jp.UploadReply(upload="u", bytes=4, complete=True)


async def test_limits_of_calls_and_uploads(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "max_upload_bytes": 10,
        "max_uploads": 1,
        "max_followers": 1,
        "max_document_bytes": 20,
        "max_jobs": 1,
    }
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db", **limits) as system:
        assert (await upload(system, message(0, b"x" * 10))).bytes == 10
        await refused(upload(system, message(10, b"x")), INVALID, "want an upload of at most 10 bytes, got more")
        await refused(system.submit("x" * 21), INVALID, "want a document of at most 20 bytes")
        name = await system.submit("{}")
        await refused(system.submit("{}", "other"), FULL, "1 jobs are kept, the limit")
        first, second = (system.Follow(jp.FollowRequest(name=name), timeout=60) for _ in range(2))
        held = system.Upload(timeout=60)
        await held.write(message(0, b"y", upload="held"))
        async with asyncio.timeout(60):
            while not (system_slots := system.service.own._following.taken, system.service.own._uploading.taken)[1]:
                await asyncio.sleep(0.01)
        assert system_slots
        await refused(second.read(), FULL, "1 calls follow jobs, the limit")
        await refused(upload(system, message(0, b"z", upload="z")), FULL, "1 calls upload, the limit")
        first.cancel()
        held.cancel()


async def test_upload_is_bounded_in_memory(system: RunningJobs) -> None:
    chunk, count = os.urandom(1 << 20), 96
    process, peak = psutil.Process(), 0
    before = process.memory_info().rss

    async def sent() -> AsyncIterator[jp.UploadRequest]:
        nonlocal peak
        for number in range(count):
            yield message(number * len(chunk), chunk, end=number == count - 1)
            peak = max(peak, process.memory_info().rss - before)

    reply = await system.Upload(sent(), timeout=110)
    assert (reply.bytes, reply.complete) == (count << 20, True)
    assert len(await system.objects.sizes("uploads/u")) == (count << 20) // SEGMENT_BYTES + 1
    assert peak < 64 << 20  # client and server are one process here; the upload has 96 MiB


async def test_upload_that_breaks_off_keeps_whole_segments(system: RunningJobs) -> None:
    chunk = b"x" * (SEGMENT_BYTES // 2)
    call = system.Upload(timeout=60)
    for number in range(3):
        await call.write(message(number * len(chunk), chunk))
    async with asyncio.timeout(60):
        while not await system.objects.sizes("uploads/u"):
            await asyncio.sleep(0.01)
    call.cancel()
    there = (await system.GetUpload(jp.GetUploadRequest(upload="u"), timeout=60)).bytes
    assert there == SEGMENT_BYTES
    assert (await upload(system, message(there, b"end", end=True))).bytes == there + 3


async def test_uploads_expire(system: RunningJobs) -> None:
    await upload(system, message(0, b"abc", end=True))
    await expire_uploads(system.objects, 3600.0)
    assert await stored(system) == b"abc"
    await expire_uploads(system.objects, -3600.0)
    assert await stored(system) == b""


async def test_upload_whose_first_segment_is_in_the_making_does_not_expire(system: RunningJobs, tmp_path: Path) -> None:
    staged = tmp_path / "objects/uploads/u" / f"{0:020d}#1"  # as obstore names it before it is whole
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    await expire_uploads(system.objects, 3600.0)
    assert staged.exists()


async def test_upload_with_a_gap_is_refused(system: RunningJobs) -> None:
    for offset in range(3):
        await upload(system, message(offset, b"x"))
    (Path(system.settings.objects) / f"uploads/u/{1:020d}").unlink()
    await refused(upload(system, message(3, b"x")), INVALID, "upload 'u' has lost its bytes from offset 1")


async def test_followers_end_when_the_service_stops(tmp_path: Path) -> None:
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db") as system:
        name = await system.submit(document(1))
        stream = system.Follow(jp.FollowRequest(name=name), timeout=60)
        reading = asyncio.ensure_future(stream.read())
        async with asyncio.timeout(60):
            while not system.service.own._following.taken:
                await asyncio.sleep(0.01)
        await system.service.drain()
        await refused(reading, grpc.StatusCode.UNAVAILABLE, "this replica is stopping")


@pytest.mark.parametrize("seconds", [1 << 62, -(1 << 62), -1])
async def test_a_wait_of_any_time_is_answered(system: RunningJobs, seconds: int) -> None:
    """A time of more than a timedelta holds was an internal error with a traceback."""
    name = await system.submit(document(1))
    waited = lro.WaitOperationRequest(name=name, timeout=Duration(seconds=seconds))
    assert not (await system.WaitOperation(waited, timeout=2 if seconds > 0 else 60)).done


@pytest.mark.parametrize("name", ["jobs/a\0b", "jobs/" + "x" * 65, "x" * 1_000_000])
async def test_a_name_that_no_job_has_does_not_reach_the_database(system: RunningJobs, name: str) -> None:
    for method, kind in (("Get", lro.GetOperationRequest), ("Delete", lro.DeleteOperationRequest)):
        call = getattr(system, f"{method}Operation")(kind(name=name), timeout=60)
        await refused(call, INVALID, "want the name of an operation as in 'jobs/0123abcd'")
