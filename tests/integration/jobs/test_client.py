"""`triptych_client.jobs` against the service: uploads that resume, answers that are followed, jobs that end."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.ledger import Job
from jobs.uploads import SEGMENT_BYTES
from jobs.work import Answers
from tests.fakes.tcp_relay import Relay
from tests.integration.jobs.doubling import Doubling, document
from tests.integration.jobs.running_jobs import RunningJobs, running_jobs, worker_beside
from triptych.errors import InvalidRequest
from triptych_client import InvalidOptions, RequestFailed
from triptych_client.jobs import JobFailed, Jobs, PartAnswers


class ArrowDoubling(Doubling):
    """The same answers as Arrow. A document that is no JSON object is refused."""

    def check(self, document: str) -> str:
        if not document.startswith("{"):
            raise InvalidRequest("job:1: want an object")
        return super().check(document)

    async def answer(self, job: Job, spec: Mapping[str, Any]) -> Answers:
        answers = await super().answer(job, spec)
        rows = list(range(spec["first"], spec["first"] + spec["rows"]))
        table = pa.table({"row": rows, "double": [2 * row for row in rows]})
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        return Answers(buffer.getvalue(), answers.rows)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningJobs]:
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db", work=ArrowDoubling()) as running:
        yield running


@contextmanager
def client(system: RunningJobs, port: int = 0, retry_s: float = 60.0) -> Iterator[Jobs]:
    with Jobs(f"127.0.0.1:{port or system.service.server.port}", retry_s=retry_s) as jobs:
        yield jobs


@contextmanager
def relay_to(system: RunningJobs) -> Iterator[Relay]:
    relay = Relay("127.0.0.1", system.service.server.port)
    try:
        yield relay
    finally:
        relay.close()


async def stored(system: RunningJobs, name: str) -> bytes:
    (upload,) = [each for each in await system.objects.folders("uploads") if each.startswith(f"{name}-")]
    names = sorted(each for each in await system.objects.sizes(f"uploads/{upload}") if not each.endswith("complete"))
    return b"".join([await system.objects.get(each) for each in names])


def reads(name: str, **fields: Any) -> str:
    return document(2, uri=f"upload://{name}", **fields)


async def test_a_job_is_submitted_with_a_file_and_followed(system: RunningJobs, tmp_path: Path) -> None:
    file = tmp_path / "rows.bin"
    file.write_bytes(os.urandom(700_000))
    with client(system) as jobs:
        job = await jobs.submit_async(reads("rows"), files={"rows": file})
        async with worker_beside(system, ArrowDoubling()):
            parts = [part async for part in jobs.follow_async(job)]
            status = await jobs.wait_async(job)
    assert await stored(system, "rows") == file.read_bytes()
    assert [(part.position, part.rows, part.bad_rows) for part in parts] == [(1, 3, 0), (2, 3, 0)]
    doubles = sorted(row for part in parts for row in part.table["double"].to_pylist())
    assert doubles == [0, 2, 4, 6, 8, 10]
    assert (status.name, status.state, status.rows, status.parts, status.model) == (job, "succeeded", 6, 2, "doubling")
    assert status.manifest.startswith(f"{job}/manifest.")


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "empty"])
async def test_what_can_be_uploaded(system: RunningJobs, tmp_path: Path, kind: str) -> None:
    content = b"" if kind == "empty" else b"some bytes"
    file = tmp_path / "a"
    file.write_bytes(content)
    sources: dict[str, Any] = {"path": file, "text": str(file), "file": io.BytesIO(content)}
    with client(system) as jobs:
        await jobs.submit_async(reads("a"), files={"a": sources.get(kind, content)})
    assert await stored(system, "a") == content


async def test_an_upload_goes_on_where_the_connection_broke(system: RunningJobs) -> None:
    content, sent, cut_at = os.urandom(3 * SEGMENT_BYTES), list[int](), 2 * SEGMENT_BYTES
    with relay_to(system) as relay, client(system, relay.port) as jobs:

        def on_upload(_name: str, there: int, _size: int) -> None:
            sent.append(there)
            if there >= cut_at and sent.count(there) == 1 and len(cuts) < 2:
                cuts.append(there)
                relay.cut()
                relay.mend()

        cuts = list[int]()
        await jobs.submit_async(reads("a"), files={"a": content}, on_upload=on_upload)
    assert await stored(system, "a") == content
    assert len(cuts) == 2
    resumed = [there for before, there in zip(sent, sent[1:], strict=False) if there < before]
    assert resumed
    assert any(there >= SEGMENT_BYTES for there in resumed)  # not from the start again


async def test_an_upload_is_continued_by_another_client_with_the_same_request_id(system: RunningJobs) -> None:
    content = os.urandom(3 * SEGMENT_BYTES)

    class Stop(Exception):
        pass

    def stop(_name: str, there: int, _size: int) -> None:
        if there > 2 * SEGMENT_BYTES:
            raise Stop

    first = list[int]()
    with client(system, retry_s=0) as jobs, pytest.raises((Stop, RequestFailed)):
        await jobs.submit_async(reads("a"), files={"a": content}, request_id="x", on_upload=stop)
    with client(system) as jobs:
        job = await jobs.submit_async(
            reads("a"), files={"a": content}, request_id="x", on_upload=lambda _, there, size: first.append(there)
        )
        again = list[int]()
        same = await jobs.submit_async(
            reads("a"), files={"a": content}, request_id="x", on_upload=lambda _, there, size: again.append(there)
        )
    assert await stored(system, "a") == content
    assert first[0] >= SEGMENT_BYTES
    assert (same, again) == (job, [])  # nothing is sent for a job that was accepted


async def test_a_job_is_followed_across_broken_connections(system: RunningJobs) -> None:
    work = ArrowDoubling()
    work.permits = asyncio.Semaphore(1)
    found = list[PartAnswers]()
    with relay_to(system) as relay, client(system, relay.port) as jobs:
        job = await jobs.submit_async(document(4))
        async with worker_beside(system, work):
            async for part in jobs.follow_async(job):
                found.append(part)
                relay.cut()
                relay.mend()
                work.permits.release()
    assert [part.position for part in found] == [1, 2, 3, 4]
    assert sorted(row for part in found for row in part.table["row"].to_pylist()) == list(range(12))


async def test_following_goes_on_behind_a_position_and_in_order(system: RunningJobs) -> None:
    with client(system) as jobs:
        job = await jobs.submit_async(document(3))
        async with worker_beside(system, ArrowDoubling()):
            await jobs.wait_async(job)
        rest = [part.part async for part in jobs.follow_async(job.removeprefix("jobs/"), 1, in_order=True)]
    assert rest == [2, 3]


async def test_leaving_a_job_that_is_followed_ends_the_call(system: RunningJobs) -> None:
    with client(system) as jobs:
        job = await jobs.submit_async(document(1))

        async def follow() -> None:
            async for _ in jobs.follow_async(job):
                pass

        following = asyncio.create_task(follow())
        async with asyncio.timeout(60):
            while not system.service.own._following.taken:
                await asyncio.sleep(0.01)
            following.cancel()
            while system.service.own._following.taken:
                await asyncio.sleep(0.01)


async def test_a_job_that_fails_or_is_cancelled_is_an_error_with_its_reason(system: RunningJobs) -> None:
    with client(system) as jobs:
        failed = await jobs.submit_async(document(2, refused=0))
        async with worker_beside(system, ArrowDoubling()):
            with pytest.raises(JobFailed, match="has failed: part 1 failed: column 'price'") as caught:
                await jobs.wait_async(failed)
        assert (caught.value.state, caught.value.job) == ("failed", failed)
        cancelled = await jobs.submit_async(document(2))
        await jobs.cancel_async(cancelled)
        with pytest.raises(JobFailed, match="was cancelled"):
            [part async for part in jobs.follow_async(cancelled)]
        listed = await asyncio.to_thread(lambda: [status.name for status in jobs.list("cancelled")])
        assert listed == [cancelled]
        await asyncio.to_thread(jobs.delete, cancelled)
        with pytest.raises(RequestFailed, match="unknown job") as gone:
            await jobs.get_async(cancelled)
        assert gone.value.code == "NOT_FOUND"


async def test_every_page_is_listed(system: RunningJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych_client.jobs.client.PAGE", 2)
    with client(system) as jobs:
        submitted = [await jobs.submit_async(document(1)) for _ in range(5)]
        listed = await asyncio.to_thread(lambda: [status.name for status in jobs.list()])
    assert listed == submitted[::-1]


@pytest.mark.parametrize(
    ("text", "files", "says"),
    [
        ("reads nothing", {"a": b""}, "the document reads no upload://a; want it in read.uri"),
        ("upload://ab", {"a": b""}, "reads no upload://a"),
        ("upload://a", {"a": "/no/such/file"}, "/no/such/file: cannot be read: No such file"),
        ("upload://a b", {"a b": b""}, "want the name of a file in 1 to 40 letters"),
        (Path("/no/such/job.yaml"), {}, "the document cannot be read: No such file"),
    ],
)
def test_wrong_files_are_refused_before_any_call(text: Any, files: Mapping[str, Any], says: str) -> None:
    with Jobs("127.0.0.1:9") as jobs, pytest.raises(InvalidOptions, match=says):
        jobs.submit(text, files=files)


async def test_a_document_that_is_refused_is_so_before_its_files_are_sent(system: RunningJobs) -> None:
    with client(system) as jobs, pytest.raises(RequestFailed, match="want an object") as refused:
        await jobs.submit_async("[upload://a]", files={"a": b"abc"})
    assert refused.value.code == "INVALID_ARGUMENT"
    assert await system.objects.folders("uploads") == []


async def test_a_changed_file_is_another_content_for_the_same_request_id(system: RunningJobs) -> None:
    with client(system) as jobs:
        await jobs.submit_async(reads("a"), files={"a": b"abc"}, request_id="x")
        with pytest.raises(RequestFailed, match="with another content; want a new request id"):
            await jobs.submit_async(reads("a"), files={"a": b"abd"}, request_id="x")


async def test_a_file_that_shrinks_while_it_is_read_is_named(system: RunningJobs, tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(3 << 20))

    def shrink(_name: str, there: int, _size: int) -> None:
        os.truncate(file, 1 << 20)

    with client(system) as jobs, pytest.raises(InvalidOptions, match="has become shorter while it was uploaded"):
        await jobs.submit_async(reads("a"), files={"a": file}, on_upload=shrink)


def test_a_service_that_is_away_is_an_error_after_the_time_for_tries() -> None:
    with Jobs("127.0.0.1:9", retry_s=0.3) as jobs, pytest.raises(RequestFailed, match="given up after") as away:
        jobs.get("jobs/x")
    assert away.value.code == "UNAVAILABLE"
