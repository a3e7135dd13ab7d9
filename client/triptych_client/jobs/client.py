"""The client of jobs: submit, follow, wait, list, cancel, delete."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration

from triptych.protocol import jobs_pb2 as jp
from triptych_client.connection import Metadata, Tls
from triptych_client.errors import InvalidOptions
from triptych_client.jobs.calls import JobCalls
from triptych_client.jobs.entities import STATES, JobStatus, PartAnswers, operation_name, status_of
from triptych_client.jobs.errors import JobFailed
from triptych_client.jobs.following import Following
from triptych_client.jobs.upload import Source, UploadSource, upload
from triptych_client.retries import Retries

SUBMIT_S: Final = 60.0
CALL_S: Final = 30.0
WAIT_S: Final = 20.0  # of one call that waits
PAGE: Final = 100
THREADS: Final = 256  # of asyncio: one for each job that is followed or waited for
SCHEME: Final = "upload://"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")

T = TypeVar("T")


class Jobs:
    """The service of jobs at `address`, `host:port` or any target of gRPC. Any thread may use it.

    A call that fails for a reason that may pass is tried again for `retry_s`. Names of jobs are `jobs/<id>`; the id
    alone will do. Methods raise `RequestFailed`, with the service's sentence.
    """

    def __init__(
        self, address: str, *, tls: Tls | None = None, metadata: Metadata | None = None, retry_s: float = 60.0
    ) -> None:
        """`metadata` goes with each call; a function is called for each. Raises `InvalidOptions`."""
        self._calls, self._retry_s = JobCalls(address, tls, metadata), retry_s
        self._threads = ThreadPoolExecutor(THREADS, "triptych-jobs")  # which starts none before it is used

    def submit(
        self,
        document: str | Path,
        *,
        files: Mapping[str, Source] | None = None,
        request_id: str = "",
        keep_s: float = 0.0,
        deadline_s: float = 0.0,
        background: bool = False,
        on_upload: Callable[[str, int, int], None] = lambda name, there, size: None,
    ) -> str:
        """Upload files, submit a document that reads them as `upload://NAME`, and return the name of the job.

        - `document`: text in YAML or JSON, or the path of such a file.
        - `files`: a path, bytes, or a binary file that can seek, by the name in the document.
        - `request_id`: the same one gives the same job, and continues uploads that broke off; by default a new one.
        - `keep_s`: results are kept that long after the end; 0: as the service has it. `deadline_s`: the job fails if
          it is not done by then; 0: none. `background`: served while no other job has anything to do.
        - `on_upload` is called with name, bytes that were sent, and size of the file.

        Raises `InvalidOptions` for files that the document does not read, or that cannot be read.
        """
        text = _text(document)
        request_id = request_id or uuid.uuid4().hex
        sources = {name: UploadSource(source) for name, source in (files or {}).items()}
        stored = {name: _stored_name(name, source, request_id) for name, source in sources.items()}
        for name in sources:
            text = _renamed(text, name, stored[name])
        request = jp.SubmitRequest(
            request_id=request_id,
            document=text,
            uploads=stored.values(),
            keep_s=keep_s,
            deadline_s=deadline_s,
            background=background,
            validate_only=bool(sources),  # what is refused is refused before anything is sent
        )
        if sources:
            if known := str(self._call("Submit", request, SUBMIT_S).name):
                return known
            for name, source in sources.items():
                upload(self._calls, stored[name], source, self._retry_s, partial(on_upload, name))
            request.validate_only = False
        return str(self._call("Submit", request, SUBMIT_S).name)

    def get(self, job: str) -> JobStatus:
        """The job as it is now."""
        return status_of(self._call("GetOperation", lro.GetOperationRequest(name=operation_name(job))))

    def list(self, state: str = "") -> Iterator[JobStatus]:
        """Jobs, the newest first; of one state, if given. Raises `InvalidOptions` for a state that does not exist."""
        if state and state not in STATES:
            raise InvalidOptions(f"want one of the states {', '.join(STATES)}, got '{state}'")
        token, page = "", True
        while page:
            request = lro.ListOperationsRequest(
                filter=f"state={state}" if state else "", page_size=PAGE, page_token=token
            )
            reply = self._call("ListOperations", request)
            yield from map(status_of, reply.operations)
            token = reply.next_page_token
            page = bool(token)

    def wait(
        self,
        job: str,
        timeout_s: float | None = None,
        *,
        on_status: Callable[[JobStatus], None] | None = None,
        every_s: float = 1.0,
    ) -> JobStatus:
        """The job once it has ended, or as it is after `timeout_s`. `on_status` is called every `every_s`.

        Raises `JobFailed` for a job that has not succeeded.
        """
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        longest_s = WAIT_S if on_status is None else every_s
        while True:
            left_s = longest_s if until_s is None else min(longest_s, max(until_s - time.monotonic(), 0.0))
            timeout = Duration()
            timeout.FromMicroseconds(round(left_s * 1e6))
            found = status_of(
                self._call("WaitOperation", lro.WaitOperationRequest(name=operation_name(job), timeout=timeout))
            )
            if on_status is not None:
                on_status(found)
            if found.state in ("failed", "cancelled"):
                raise JobFailed(found.name, found.state, found.error)
            if found.has_ended or (until_s is not None and time.monotonic() >= until_s):
                return found

    def follow(self, job: str, position: int = 0, *, in_order: bool = False) -> Iterator[PartAnswers]:
        """The answers of each part as it is committed, or in the order of the parts, until the job has succeeded.

        `position` is that of the last part that was read, to go on behind it. A connection that breaks is made again.
        Raises `JobFailed`.
        """
        yield from self._following(job, position, in_order=in_order)

    def cancel(self, job: str) -> None:
        """Cancel a job. Parts that are committed stay."""
        self._call("CancelOperation", lro.CancelOperationRequest(name=operation_name(job)))

    def delete(self, job: str) -> None:
        """Delete a job that has ended, with its answers."""
        self._call("DeleteOperation", lro.DeleteOperationRequest(name=operation_name(job)))

    # The same on asyncio. Each call has a thread while it lasts.

    async def submit_async(self, document: str | Path, **options: Any) -> str:
        """`submit`, without blocking the event loop. Cancelling it ends the wait alone."""
        return await self._in_thread(partial(self.submit, document, **options))

    async def get_async(self, job: str) -> JobStatus:
        """`get`, without blocking the event loop."""
        return await self._in_thread(partial(self.get, job))

    async def wait_async(self, job: str, timeout_s: float | None = None) -> JobStatus:
        """`wait`, without blocking the event loop. Cancelling it leaves its thread until `timeout_s`, or the end."""
        return await self._in_thread(partial(self.wait, job, timeout_s))

    async def follow_async(self, job: str, position: int = 0, *, in_order: bool = False) -> AsyncIterator[PartAnswers]:
        """`follow`, without blocking the event loop. Cancelling it ends the call."""
        following = self._following(job, position, in_order=in_order)
        parts = iter(following)
        try:
            while (part := await self._in_thread(lambda: next(parts, None))) is not None:
                yield part
        finally:
            following.close()

    async def cancel_async(self, job: str) -> None:
        """`cancel`, without blocking the event loop."""
        await self._in_thread(partial(self.cancel, job))

    def close(self) -> None:
        """Close the connection. Calls that last end with `RequestFailed`."""
        self._calls.close()
        self._threads.shutdown(wait=False)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _following(self, job: str, position: int, *, in_order: bool) -> Following:
        return Following(self._calls, operation_name(job), position, in_order=in_order, retry_s=self._retry_s)

    def _call(self, method: str, request: Any, timeout_s: float = CALL_S) -> Any:
        return Retries(self._retry_s)(lambda: self._calls.answer(method, request, timeout_s))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _text(document: str | Path) -> str:
    """Raises `InvalidOptions`."""
    if isinstance(document, str):
        return document
    try:
        return document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidOptions(f"{document}: the document cannot be read: {reason}") from None


def _stored_name(name: str, source: UploadSource, request_id: str) -> str:
    """The name of an upload at the service, which has one space of names for all callers.

    It is the same for each try of a submission, unless the file was changed. Raises `InvalidOptions`.
    """
    if not _NAME.fullmatch(name):
        raise InvalidOptions(f"want the name of a file in 1 to 40 letters, digits, _ and -, got '{name}'")
    digest = hashlib.sha256(f"{request_id}\n{source.identity}".encode()).hexdigest()
    return f"{name}-{digest[:16]}"


def _renamed(document: str, name: str, stored: str) -> str:
    """The document with `upload://NAME` as the service stores it. Raises `InvalidOptions` if it has no such URI."""
    text, count = re.subn(rf"{SCHEME}{re.escape(name)}(?![A-Za-z0-9_-])", f"{SCHEME}{stored}", document)
    if not count:
        raise InvalidOptions(f"the document reads no {SCHEME}{name}; want it in read.uri, or no file of that name")
    return text
