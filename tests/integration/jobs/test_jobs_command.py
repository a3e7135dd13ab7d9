"""`triptych jobs` against the service: its lines, its files, its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.jobs.doubling import document
from tests.integration.jobs.running_jobs import RunningJobs, running_jobs, worker_beside
from tests.integration.jobs.test_client import ArrowDoubling
from triptych_cli.__main__ import main

Run = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[RunningJobs]:
    async with running_jobs(tmp_path, f"sqlite:///{tmp_path}/jobs.db", work=ArrowDoubling()) as running:
        yield running


@pytest.fixture
def run(system: RunningJobs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs `triptych jobs ...` and returns exit status, output and errors."""
    monkeypatch.setenv("TRIPTYCH_JOBS", f"127.0.0.1:{system.service.server.port}")

    def called(words: tuple[str, ...]) -> int:
        try:
            return main(["jobs", *words])
        except SystemExit as ended:
            return int(ended.code or 0)

    async def ran(*words: str) -> tuple[int, str, str]:
        status = await asyncio.to_thread(called, words)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return ran


@pytest.fixture
def job(tmp_path: Path) -> str:
    file = tmp_path / "job.yaml"
    file.write_text(document(3, uri="upload://rows"))
    (tmp_path / "rows").write_bytes(bytes(600_000))
    return str(file)


def files(tmp_path: Path) -> list[str]:
    return ["--file", f"rows={tmp_path / 'rows'}"]


async def test_a_job_is_submitted_and_followed_into_a_file(
    system: RunningJobs, run: Run, job: str, tmp_path: Path
) -> None:
    out = tmp_path / "answers.parquet"
    async with worker_beside(system, ArrowDoubling()):
        status, shown, errors = await run("submit", job, *files(tmp_path), "--follow", "--out", str(out))
    assert status == 0, errors
    name, written, ended = shown.splitlines()
    assert name.startswith("jobs/")
    assert (written, ended) == (f"{out}: 9 rows", f"{name} has succeeded: 9 rows by doubling, version 1")
    assert pq.read_table(out)["row"].to_pylist() == list(range(9))
    assert "jobs: upload rows: 585.9 KiB of 585.9 KiB" in errors
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    status, _, errors = await run("follow", name, "--out", str(out))
    assert (status, errors) == (2, f"--out {out}: exists; --replace puts the answers in its place\n")
    assert (await run("follow", name, "--out", str(out), "--replace"))[0] == 0
    arrow = tmp_path / "answers.arrow"
    assert (await run("follow", name, "--out", str(arrow)))[0] == 0
    assert pa.ipc.open_file(arrow).read_all()["double"].to_pylist() == list(range(0, 18, 2))


async def test_following_into_a_folder_goes_on_where_it_was(system: RunningJobs, run: Run, tmp_path: Path) -> None:
    name, other = await system.submit(document(3)), await system.submit(document(1), "other")
    async with worker_beside(system, ArrowDoubling()):
        await system.operation(name)
    out = tmp_path / "answers"
    assert (await run("follow", name, "--out", str(out)))[:2] == (
        0,
        f"{out}: 3 parts\n{name} has succeeded: 9 rows by doubling, version 1\n",
    )
    (out / "_position.json").write_text(json.dumps({"job": name, "position": 2}))
    kept = {each: (out / f"part-00000{each}.arrow").stat().st_mtime_ns for each in (1, 2, 3)}
    assert (await run("follow", name, "--out", str(out)))[0] == 0
    changed = [each for each in kept if (out / f"part-00000{each}.arrow").stat().st_mtime_ns != kept[each]]
    assert changed == [3]
    assert pa.ipc.open_stream((out / "part-000003.arrow").read_bytes()).read_all()["row"].to_pylist() == [6, 7, 8]
    status, _, errors = await run("follow", other, "--out", str(out))
    assert (status, errors) == (2, f"--out {out}: has the answers of {name}; want another folder for {other}\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    assert "want a new or an empty folder" in (await run("follow", name, "--out", str(tmp_path / "full")))[2]


async def test_a_job_is_waited_for_shown_listed_and_deleted(system: RunningJobs, run: Run, job: str) -> None:
    Path(job).write_text(document(2))
    async with worker_beside(system, ArrowDoubling()):
        status, shown, _ = await run("submit", job, "--request-id", "x", "--wait")
    name = shown.splitlines()[0]
    assert (status, shown) == (0, f"{name}\n{name} has succeeded: 6 rows by doubling, version 1\n")
    status, shown, errors = await run("submit", job, "--request-id", "x")  # the same job
    assert (status, shown, errors) == (0, f"{name}\n", f"follow it by: triptych jobs follow {name}\n")
    status, shown, _ = await run("get", name)
    lines = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert (status, lines["state"], lines["parts"]) == (0, "succeeded", "2 of 2")
    assert json.loads((await run("get", name.removeprefix("jobs/"), "--json"))[1])["rows"] == 6
    waiting = await system.submit(document(1), "waiting")
    status, shown, _ = await run("list")
    head, *rows = shown.splitlines()
    assert head.split() == ["job", "state", "model", "version", "parts", "rows", "bad", "rows", "created"]
    assert [row.split()[:2] for row in rows] == [[waiting, "planning"], [name, "succeeded"]]
    assert len((await run("list", "--state", "planning", "--json"))[1].splitlines()) == 1
    assert (await run("list", "--limit", "1"))[1].splitlines()[1].split()[0] == waiting
    status, _, errors = await run("delete", waiting)
    assert (status, "is planning; cancel it before it is deleted" in errors) == (2, True)
    assert (await run("cancel", waiting, name))[:2] == (
        0,
        f"{waiting} was cancelled\n{name} has ended: succeeded\n",
    )
    assert (await run("delete", waiting, name))[0] == 0
    assert (await run("list"))[1].splitlines()[1:] == []


async def test_a_job_that_fails_is_exit_status_3_with_its_reason(
    system: RunningJobs, run: Run, job: str, tmp_path: Path
) -> None:
    Path(job).write_text(document(2, refused=3))
    out = tmp_path / "answers.parquet"
    async with worker_beside(system, ArrowDoubling()):
        status, _, errors = await run("submit", job, "--follow", "--out", str(out), "--quiet")
    assert status == 3
    assert errors.splitlines()[-1].endswith("has failed: part 2 failed: column 'price': want FP32, got text")
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["get", "jobs/x"], 2, "unknown job 'x'"),
        (["follow", "jobs/x", "--out", "answers.csv"], 2, "want a folder, or a file with one of the endings .arrow"),
        (["submit", "/no/such.yaml"], 2, "/no/such.yaml: the document cannot be read: No such file"),
        (["submit", "JOB", "--file", "rows"], 2, "want NAME=PATH, as in sales=sales.parquet"),
        (["submit", "JOB", "--file", "rows=/no/such"], 2, "/no/such: cannot be read: No such file"),
        (["submit", "JOB", "--file", "other=JOB"], 2, "the document reads no upload://other"),
        (["submit", "JOB", "--file", "rows=JOB", "--file", "rows=JOB"], 2, "want each NAME once"),
        (["submit", "JOB", "--out", "x"], 2, "--out is for --follow"),
        (["submit", "JOB", "--follow", "--wait"], 2, "not allowed with"),
        (["list", "--address", "127.0.0.1:9", "--retry", "1s"], 1, "no service of jobs answers at 127.0.0.1:9"),
        (["list", "--ca", "/no/such.pem"], 2, "tls: cannot use /no/such.pem: No such file"),
        (["list", "--cert", "/no/such.pem"], 2, "--cert and --key want --ca beside them"),
        (["list", "--state", "x"], 2, "invalid choice"),
        (["lists"], 2, "invalid choice"),
    ],
)
async def test_errors_say_what_is_wrong_and_what_to_do(
    run: Run, job: str, words: list[str], status: int, says: str
) -> None:
    found, _, errors = await run(*(word.replace("JOB", job) for word in words))
    assert (found, says in errors) == (status, True), errors


async def test_a_document_that_is_refused_sends_nothing(
    system: RunningJobs, run: Run, job: str, tmp_path: Path
) -> None:
    Path(job).write_text("[upload://rows]")
    status, shown, errors = await run("submit", job, *files(tmp_path))
    assert (status, shown, "job:1: want an object" in errors) == (2, "", True)
    assert "--request-id" not in errors  # there is nothing to go on with
    assert await system.objects.folders("uploads") == []


async def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(system: RunningJobs, tmp_path: Path) -> None:
    work = ArrowDoubling()
    work.permits = asyncio.Semaphore(1)
    name = await system.submit(document(2))
    address = f"127.0.0.1:{system.service.server.port}"
    command = [sys.executable, "-m", "triptych_cli", "jobs", "follow", name, "--address", address]
    environment = {key: value for key, value in os.environ.items() if key != "TRIPTYCH_JOBS"}
    started = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert started.stdout is not None
        async with worker_beside(system, work), asyncio.timeout(110):
            assert await started.stdout.readline() == b"part 1: 3 rows\n"
            started.send_signal(signal.SIGINT)
            _, errors = await started.communicate()
            work.permits.release()
            operation = await system.operation(name)
    finally:
        with suppress(ProcessLookupError):
            started.kill()
    assert started.returncode == 130
    again = f"{name} goes on; follow it again by: triptych jobs follow {name} --address {address}"
    assert errors.decode().splitlines()[-1] == again
    assert not operation.HasField("error")


async def test_an_upload_to_a_service_that_goes_away_is_continued_by_the_command_that_is_printed(
    system: RunningJobs, run: Run, job: str, tmp_path: Path
) -> None:
    status, shown, errors = await run("submit", job, *files(tmp_path), "--address", "127.0.0.1:9", "--retry", "1s")
    assert (status, shown) == (1, "")
    again = next(line for line in errors.splitlines() if line.startswith("not submitted; "))
    words = shlex.split(again.partition("it ended: triptych jobs ")[2])
    assert words[-1].startswith("--request-id=")
    words[words.index("127.0.0.1:9")] = f"127.0.0.1:{system.service.server.port}"
    first, second = [await run(*words) for _ in range(2)]
    assert first[0] == second[0] == 0
    assert first[1] == second[1]
