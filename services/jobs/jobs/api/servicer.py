"""The methods of triptych.v1.Jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from jobs.api.follow import Follower
from jobs.api.lasting_calls import LastingCalls
from jobs.api.operations import PREFIX, job_id
from jobs.ledger import Ledger, NewJob
from jobs.uploads import Upload, Uploads
from triptych.errors import InvalidRequest
from triptych.protocol import jobs_pb2 as jp
from triptych.protocol.call import Call

SERVICE = jp.DESCRIPTOR.services_by_name["Jobs"]
MAX_POSITION = 1 << 62


class JobsServicer:
    """Decodes requests, and calls the ledger, the uploads and the follower."""

    def __init__(
        self,
        ledger: Ledger,
        uploads: Uploads,
        follower: Follower,
        check: Callable[[str], str],
        *,
        keep_s: float,
        max_uploads: int,
        max_followers: int,
    ) -> None:
        """`check` returns the model of a document, and raises `InvalidRequest` for what no worker could work on."""
        self._ledger, self._uploads, self._follower, self._keep_s = ledger, uploads, follower, keep_s
        self._check = check
        self._uploading = LastingCalls(max_uploads, "calls upload")
        self._following = LastingCalls(max_followers, "calls follow jobs")

    async def submit(self, request: jp.SubmitRequest, _call: Call) -> jp.SubmitReply:
        model = self._check(request.document)
        if not request.validate_only:
            for name in request.uploads:
                await self._uploads.check_complete(name)
        keep_s, deadline_s = request.keep_s or self._keep_s, request.deadline_s or None
        new = NewJob(request.request_id, request.document, keep_s, deadline_s, request.background, model)
        job = await (self._ledger.validate(new) if request.validate_only else self._ledger.submit(new))
        return jp.SubmitReply(name="" if job is None else f"{PREFIX}{job.id}")

    async def upload(
        self, requests: AsyncIterator[Callable[[], jp.UploadRequest]], _call: Call
    ) -> AsyncIterator[jp.UploadReply]:
        """One answer, once the caller has sent all it has: the bytes that are there, and whether that is the end."""
        with self._uploading.slot():
            writer, complete = None, False
            try:
                async for parse in requests:
                    request = parse()
                    if writer is None:
                        writer = await self._uploads.writer(request.upload)
                    elif request.upload not in ("", writer.upload.name):
                        raise InvalidRequest("want one upload in a call, got two names")
                    if complete:
                        raise InvalidRequest("want no message behind the one that ends the upload")
                    await writer.write(request.offset, request.content, request.crc32c)
                    complete = request.end
                if writer is None:
                    raise InvalidRequest("want at least one message with the name of an upload")
                upload = await writer.finish(complete=complete)
            finally:
                if writer is not None:
                    await writer.abandon()
            yield _reply(upload)

    async def get_upload(self, request: jp.GetUploadRequest, _call: Call) -> jp.UploadReply:
        return _reply(await self._uploads.get(request.upload))

    async def follow(self, request: jp.FollowRequest, _call: Call) -> AsyncIterator[jp.FollowReply]:
        if request.position > MAX_POSITION:
            raise InvalidRequest(f"want a position of the stream before, got {request.position}")
        with self._following.slot():
            answers = self._follower.follow(job_id(request.name), request.position, in_order=request.in_order)
            async for answer in answers:
                yield answer


def _reply(upload: Upload) -> jp.UploadReply:
    return jp.UploadReply(upload=upload.name, bytes=upload.bytes, complete=upload.complete)
