"""`python -m jobs.submit`: submits a document, waits for its job, and prints the progress. Scheduled batches run it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.longrunning import operations_pb2 as lro

from triptych.protocol import jobs_pb2 as jp
from triptych_client import Tls
from triptych_client.errors import InvalidOptions

SUBMIT = "/triptych.v1.Jobs/Submit"
WAIT = "/google.longrunning.Operations/WaitOperation"
OPTIONS = (("grpc.max_reconnect_backoff_ms", 1000),)
CALL_S = 30.0
MAX_PAUSE_S = 10.0  # between two tries of a call
TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)
REFUSED, FAILED = 2, 3

DESCRIPTION = """\
Submit a job and wait until it is done. With the same request id and the same document it is the same job: this command
may be called again if it ended early. While the service is away it tries again.

exit status: 0 if the job has succeeded, 2 if it was refused, 3 if it has failed or was cancelled
"""

T = TypeVar("T")


class Jobs:
    """The calls that a submission needs. A call is tried again while the service is away or full."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        """Raises `InvalidOptions` for TLS files that cannot be used."""
        self._channel: Any = (
            grpc.insecure_channel(address, OPTIONS)
            if tls is None
            else grpc.secure_channel(address, tls.credentials(), OPTIONS)
        )
        self._submit = self._channel.unary_unary(SUBMIT, jp.SubmitRequest.SerializeToString, jp.SubmitReply.FromString)
        self._wait = self._channel.unary_unary(
            WAIT, lro.WaitOperationRequest.SerializeToString, lro.Operation.FromString
        )

    def close(self) -> None:
        self._channel.close()

    def submit(self, request: jp.SubmitRequest) -> str:
        """The name of the operation. Raises `grpc.RpcError` if the job is refused."""
        return str(_patiently(lambda: self._submit(request, timeout=CALL_S)).name)

    def wait(self, name: str) -> lro.Operation:
        """The operation once it is done, or as it is after some seconds. Raises `grpc.RpcError` if it is gone."""
        found: lro.Operation = _patiently(lambda: self._wait(lro.WaitOperationRequest(name=name), timeout=CALL_S))
        return found


def _patiently(call: Callable[[], T]) -> T:
    pause_s = 1.0
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() not in TRANSIENT:
                raise
            print(f"jobs does not answer ({error.code().name}): {error.details()}; next try in {pause_s:g} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def run(jobs: Jobs, request: jp.SubmitRequest) -> int:
    """Submit, wait and print. Returns the exit status."""
    try:
        name = jobs.submit(request)
        print(f"{name} accepted, request id {request.request_id}")
        shown = ""
        while True:
            operation = jobs.wait(name)
            if (progress := _progress(operation)) != shown:
                print(f"{name} {progress}")
                shown = progress
            if operation.done:
                break
    except grpc.RpcError as error:
        print(f"refused ({error.code().name}): {error.details()}", file=sys.stderr)
        return REFUSED
    if operation.HasField("error"):
        print(f"{name} has not succeeded: {operation.error.message}", file=sys.stderr)
        return FAILED
    return 0


def _progress(operation: lro.Operation) -> str:
    found = jp.JobMetadata()
    operation.metadata.Unpack(found)
    version = f", {found.model} version {found.version}" if found.version else ""
    bad = f", {found.bad_rows:,} bad" if found.bad_rows else ""
    return f"{found.state}: {found.committed:,} of {found.parts:,} parts, {found.rows:,} rows{bad}{version}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m jobs.submit", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("document", type=Path, metavar="DOCUMENT", help="file with the document of the job")
    parser.add_argument("--address", default="127.0.0.1:9003", help="of jobs; default %(default)s")
    parser.add_argument("--request-id", required=True, help="the same for each try of one submission")
    parser.add_argument("--deadline", type=float, default=0.0, metavar="SECONDS", help="the job fails after that time")
    parser.add_argument("--ca", default="", help="authorities of the service (PEM), for TLS")
    parser.add_argument("--certificate", default="", help="certificate to show (PEM)")
    parser.add_argument("--key", default="", help="its key (PEM)")
    given = parser.parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        document = given.document.read_text("utf-8")
        jobs = Jobs(given.address, Tls(given.ca, given.certificate, given.key) if given.ca else None)
    except (OSError, UnicodeDecodeError, InvalidOptions) as error:
        print(error, file=sys.stderr)
        return REFUSED
    request = jp.SubmitRequest(request_id=given.request_id, document=document, deadline_s=given.deadline)
    try:
        return run(jobs, request)
    finally:
        jobs.close()


if __name__ == "__main__":
    sys.exit(main())
