"""The error of a job that has ended without all of its answers."""

from __future__ import annotations

from triptych_client.errors import AskError


class JobFailed(AskError):
    """A job has failed or was cancelled. `state` says which, `reason` has the service's sentence.

    The answers of parts that were committed before can still be read.
    """

    def __init__(self, job: str, state: str, reason: str) -> None:
        super().__init__(f"{job} has {state}: {reason}" if state == "failed" else f"{job} was cancelled")
        self.job, self.state, self.reason = job, state, reason
