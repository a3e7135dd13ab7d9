"""`triptych jobs submit --wait`, as scheduled batches call it: one job by any number of calls, and the exit status."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.integration.jobs.doubling import document as job
from tests.integration.jobs.running_jobs import RunningJobs, running_jobs, worker_beside


async def submitted(
    system: RunningJobs, document: Path, *options: str, request_id: str = "nightly-1"
) -> tuple[int, str]:
    """Exit status and output of one call of the command."""
    address = f"--address=127.0.0.1:{system.service.server.port}"
    words = ["submit", str(document), "--wait", address, f"--request-id={request_id}", *options]
    command = [sys.executable, "-m", "triptych_cli", "jobs", *words]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_two_calls_with_one_request_id_are_one_job(tmp_path: Path) -> None:
    document = tmp_path / "job.yaml"
    document.write_text(job(2))
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db") as system, worker_beside(system):
        first = await submitted(system, document)
        second = await submitted(system, document)
        (found,), _ = await system.ledger.list_jobs()
    for status, output in (first, second):
        assert status == 0, output
        assert f"jobs/{found.id} has succeeded: 6 rows" in output


async def test_a_job_that_misses_its_deadline_has_failed(tmp_path: Path) -> None:
    document = tmp_path / "job.yaml"
    document.write_text(job(2))
    url = f"sqlite:///{tmp_path}/jobs.db"
    async with running_jobs(tmp_path, url, expire_s=0.1) as system:  # and nobody works
        status, output = await submitted(system, document, "--deadline=0.5")
    assert (status, "the deadline of the job has passed" in output) == (3, True), output


async def test_a_service_that_is_away_is_waited_for(tmp_path: Path) -> None:
    document = tmp_path / "job.yaml"
    document.write_text(job(1))
    url = f"sqlite:///{tmp_path}/jobs.db"
    async with running_jobs(tmp_path, url) as system:
        port = system.service.server.port
    waiting = asyncio.create_task(submitted(system, document))
    async with running_jobs(tmp_path, url, port=port) as system, worker_beside(system):
        status, output = await waiting
    assert (status, "has succeeded: 3 rows" in output) == (0, True), output
