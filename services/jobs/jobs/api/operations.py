"""google.longrunning.Operations for jobs: an operation is named `jobs/<id>`."""

from __future__ import annotations

import json
import time

from google.longrunning import operations_pb2 as lro
from google.protobuf.empty_pb2 import Empty
from google.rpc import code_pb2, status_pb2

from jobs.ledger import Job, JobState, Ledger
from jobs.summary import values_of
from triptych.errors import InvalidRequest, clipped
from triptych.protocol import jobs_pb2 as jp
from triptych.protocol.call import Call

SERVICE = lro.DESCRIPTOR.services_by_name["Operations"]
PREFIX = "jobs/"
MAX_ID = 64  # characters
MAX_PAGE = 100  # operations in one answer
MAX_WAIT_S = 25.0  # of one call of WaitOperation, which the caller repeats
ANSWER_S = 0.5  # left of a call's time when its wait ends
_CODES = {JobState.FAILED: code_pb2.ABORTED, JobState.CANCELLED: code_pb2.CANCELLED}


class OperationsServicer:
    """The methods of google.longrunning.Operations."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def get_operation(self, request: lro.GetOperationRequest, _call: Call) -> lro.Operation:
        return await self._operation(await self._ledger.get(job_id(request.name)))

    async def list_operations(self, request: lro.ListOperationsRequest, _call: Call) -> lro.ListOperationsResponse:
        """Jobs, the newest first. The filter is empty, or a state as in `state=running`."""
        if request.name not in ("", "jobs"):
            raise InvalidRequest(f"want the name 'jobs', or none, got '{clipped(request.name)}'")
        size = min(request.page_size or MAX_PAGE, MAX_PAGE)
        jobs, token = await self._ledger.list_jobs(size, request.page_token, _states(request.filter))
        operations = [await self._operation(job) for job in jobs]
        return lro.ListOperationsResponse(operations=operations, next_page_token=token)

    async def wait_operation(self, request: lro.WaitOperationRequest, call: Call) -> lro.Operation:
        """The operation once it is done, or as it is after the timeout, at most `MAX_WAIT_S`."""
        timeout = request.timeout  # of any numbers: a timedelta holds fewer
        asked_s = timeout.seconds + timeout.nanos / 1e9 if request.HasField("timeout") else MAX_WAIT_S
        until_s = time.monotonic() + min(asked_s, MAX_WAIT_S, call.remaining_s() - ANSWER_S)
        job = await self._ledger.get(job_id(request.name))
        while not job.has_ended and (left_s := until_s - time.monotonic()) > 0:
            job = await self._ledger.wait(job.id, job.revision, left_s)
        return await self._operation(job)

    async def cancel_operation(self, request: lro.CancelOperationRequest, _call: Call) -> Empty:
        await self._ledger.cancel(job_id(request.name))
        return Empty()

    async def delete_operation(self, request: lro.DeleteOperationRequest, _call: Call) -> Empty:
        await self._ledger.delete(job_id(request.name))
        return Empty()

    async def _operation(self, job: Job) -> lro.Operation:
        operation = lro.Operation(name=f"{PREFIX}{job.id}", done=job.has_ended)
        operation.metadata.Pack(metadata_of(job))
        if job.state is JobState.SUCCEEDED:
            (finish,) = await self._ledger.parts(job.id, job.parts)
            manifest = finish.result.object if finish.result is not None else ""
            operation.response.Pack(jp.JobResult(manifest=manifest, rows=job.rows, bad_rows=job.bad_rows))
        elif job.has_ended:
            text = job.error or "the job was cancelled"
            operation.error.CopyFrom(status_pb2.Status(code=_CODES[job.state], message=text))
        return operation


def job_id(name: str) -> str:
    """The id of the job of an operation. Raises `InvalidRequest`."""
    found = name.removeprefix(PREFIX)
    if not name.startswith(PREFIX) or len(found) > MAX_ID or "\0" in found:  # which Postgres does not take
        raise InvalidRequest(f"want the name of an operation as in 'jobs/0123abcd', got '{clipped(name)}'")
    return found


def metadata_of(job: Job) -> jp.JobMetadata:
    return jp.JobMetadata(
        request_id=job.request_id or "",
        state=job.state,
        model=job.model,
        version=job.version,
        parts=job.parts,
        committed=job.committed,
        rows=job.rows,
        bad_rows=job.bad_rows,
        created_s=job.created_s,
        started_s=job.started_s or 0.0,
        ended_s=job.ended_s or 0.0,
        expires_s=job.expires_s or 0.0,
        background=job.background,
        summary_json=json.dumps(values_of(job.summary)) if job.summary is not None else "",
    )


def _states(text: str) -> list[JobState]:
    if not text:
        return []
    name, _, value = text.partition("=")
    if name.strip() != "state" or value.strip() not in list(JobState):
        want = f"want no filter, or state= and one of {', '.join(JobState)}"
        raise InvalidRequest(f"{want}, got '{clipped(text)}'")
    return [JobState(value.strip())]
