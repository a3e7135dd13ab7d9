"""Jobs that outlive each part of the system: the API, a worker, the database, the store, Triton, preprocess."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, cast

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.api import servicer
from local.endpoints import Endpoint, free_endpoints
from local.health import stage_is_ready
from local.server_process import ServerProcess
from local.stack import MODEL_REPOSITORY, LocalStack
from tests.integration.conftest import MakeStack
from tests.integration.jobs.running_jobs import stubs
from tests.integration.postgres import Postgres
from tests.integration.s3_gateway import s3_gateway
from tests.tables import sales_table
from triptych.protocol import jobs_pb2 as jp
from triptych_client import Ask

ROUNDS = int(os.environ.get("OUTAGES", "1"))  # outages of each part of the system
ROWS, PART_ROWS, OUTAGE_S, WAIT_S = 1_000, 25, 1.0, 300.0


class Mortal(Protocol):
    """A part of the system."""

    def kill(self) -> None:
        """End it at once."""

    def start(self) -> object:
        """Start it again."""


class Component:
    """A part of the stack."""

    def __init__(self, stack: LocalStack, name: str) -> None:
        self._stack, self._name = stack, name

    def kill(self) -> None:
        self._stack.kill_component(self._name)

    def start(self) -> None:
        self._stack.start_component(self._name)


class Answers:
    """Follows a job in a thread of its own, and goes on behind the last whole part when a call breaks off."""

    def __init__(self, address: str, job: str) -> None:
        self.parts: list[Any] = []
        self.rows, self.broken, self.state = 0, 0, ""
        self._address, self._job, self._position = address, job, 0
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def wait(self) -> str:
        """The state of the job at its end."""
        self._thread.join(WAIT_S)
        return self.state

    def wait_for(self, rows: int) -> None:
        until = time.monotonic() + WAIT_S
        while self.rows < rows and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)

    def _follow(self) -> None:
        until = time.monotonic() + WAIT_S
        while not self.state and time.monotonic() < until:
            with grpc.insecure_channel(self._address) as channel:
                try:
                    self._follow_once(stubs(channel, servicer.SERVICE)["Follow"])
                except grpc.RpcError as error:
                    code = cast(grpc.Call, error).code()
                    if code is not grpc.StatusCode.UNAVAILABLE:
                        self.state = f"{code}: {error}"
                    self.broken += 1
                    time.sleep(0.1)

    def _follow_once(self, call: Callable[..., Any]) -> None:
        content = b""
        for reply in call(jp.FollowRequest(name=self._job, position=self._position), timeout=WAIT_S):
            if reply.state:
                self.state = f"{reply.state} {reply.error}".strip()
                return
            content += reply.content
            if not reply.more:
                self.parts.append(pa.ipc.open_stream(content).read_all())
                self.rows += self.parts[-1].num_rows
                self._position, content = reply.position, b""


@pytest.fixture
def system(
    make_stack: MakeStack, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Mortal]]:
    """The API and two workers, on Postgres and a store of S3, before a stack. One worker stays as it is."""
    stack = make_stack()
    with ExitStack() as running:
        gateway = running.enter_context(s3_gateway(tmp_path / "s3", monkeypatch))
        variables = {
            **os.environ,
            "JOBS_LEDGER": postgres.emptied(),
            "JOBS_OBJECTS": "s3://models/jobs",
            "JOBS_PREPROCESS": stack.address("preprocess"),
            "JOBS_SOURCES": str(tmp_path / "data"),
            "JOBS_LEASE_S": "2",
            "JOBS_PREDICT_RETRY_S": "2",
        }
        parts = {"API": 0, "worker": 1, "other worker": 1}
        jobs = {
            name: _process(endpoint, variables | {"JOBS_PARALLEL_PARTS": str(parallel)}, tmp_path / f"{name}.log")
            for (name, parallel), endpoint in zip(parts.items(), free_endpoints().values(), strict=False)
        }
        for process in jobs.values():
            running.callback(process.stop, 30.0)
            process.start()
        del jobs["other worker"]
        yield {
            **jobs,
            "database": postgres,
            "store": gateway,
            "Triton": Component(stack, "predictor"),
            "preprocess": Component(stack, "preprocess"),
        }


def _process(endpoint: Endpoint, variables: dict[str, str], log: Path) -> ServerProcess:
    ports = {"JOBS_PORT": str(endpoint.port), "JOBS_METRICS_PORT": str(endpoint.metrics_port)}
    command, address = [sys.executable, "-m", "jobs"], endpoint.address
    return ServerProcess("jobs", command, variables | ports, address, log, lambda: stage_is_ready(address))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_jobs_outlive_each_part_of_the_system(system: dict[str, Mortal], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = sales_table(ROWS)
    pq.write_table(table, tmp_path / "data/sales.parquet")
    document = f"""\
apiVersion: triptych.dev/v1
kind: Job
model: sales_forecast_de
read: {{uri: "{tmp_path}/data/sales.parquet"}}
keep: [shop]
limits: {{partRows: {PART_ROWS}}}
"""
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, version=1, keep=["shop"], max_rows=PART_ROWS) as ask:
        wanted = ask(table).combine_chunks()
    api: Any = system["API"]
    for number, (name, part) in enumerate(list(system.items()) * ROUNDS):
        with grpc.insecure_channel(api.address) as channel:
            request = jp.SubmitRequest(request_id=f"{number}", document=document)
            submit = stubs(channel, servicer.SERVICE)["Submit"]
            answers = Answers(api.address, submit(request, timeout=WAIT_S, wait_for_ready=True).name)
        answers.wait_for((1 + number // len(system)) * PART_ROWS)
        assert answers.rows < ROWS, name
        part.kill()
        time.sleep(OUTAGE_S)
        part.start()
        assert answers.wait() == "succeeded", name
        assert answers.broken or name != "API"
        found = pa.concat_tables(answers.parts).sort_by("triptych_row")
        assert found.column("triptych_row").to_pylist() == list(range(ROWS)), name
        assert found.select(["shop", "units", "total"]).equals(wanted), name
        assert set(found.column("triptych_version").to_pylist()) == {1}
