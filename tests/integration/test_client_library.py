"""The client library against the real stack: the same answers as in a folder, one version, faults of the way."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.endpoints import free_endpoints
from local.environments import ROOT
from local.jobs import running_jobs
from local.stack import MODEL_REPOSITORY, LocalStack
from tests.integration.conftest import MakeStack
from tests.tables import pictures_table, sales_table
from triptych_client import Ask, InvalidOptions, RefusedRow, RequestFailed
from triptych_client.answers import RECORD

ALIASED = """\
apiVersion: triptych.dev/v1alpha1
kind: ServedModel
metadata: {name: digits-gb}
spec:
  model: digits_gb
  traffic: [{version: 1, percent: 60}, {version: 2, percent: 40}]
  aliases: {production: 2}
"""


GUIDE = (ROOT / "docs/guides/client.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PRINTED = ("[{'shop': 'Bonn', 'units': [", "README.md None {'code': 'INVALID_ARGUMENT'", "10000", "part of 250 rows")
JOBS_GUIDE = (ROOT / "docs/guides/jobs.md").read_text("utf-8")


def both(stack: LocalStack, model: str, table: Any, **options: Any) -> tuple[Any, Any]:
    """The answers of the stack and of the folder."""
    with (
        Ask(model, address=stack.address("preprocess"), **options) as remote,
        Ask(model, repository=MODEL_REPOSITORY, **options) as local,
    ):
        return remote(table), local(table)


def columns_but(table: Any, *names: str) -> Any:
    return table.drop_columns([name for name in names if name in table.column_names])


@pytest.mark.parametrize("max_rows", [None, 7])
def test_a_thousand_rows_have_the_same_answers_by_the_stack_and_by_the_folder(
    stack: LocalStack, max_rows: int | None
) -> None:
    options = {"keep": ["shop"], "records": True, "in_flight": 1, "max_rows": max_rows}
    remote, local = both(stack, "sales_forecast_de", sales_table(1000), **options)
    assert remote.num_rows == 1000
    assert remote.schema == local.schema
    of_one_call = ("triptych_id", "triptych_time")
    assert columns_but(remote, *of_one_call) == columns_but(local, *of_one_call)
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["shop"], max_rows=1000) as ask:
        assert ask(sales_table(1000)).to_pylist() == columns_but(remote, *RECORD).to_pylist()
    assert set(remote["triptych_version"].to_pylist()) == {1}
    assert remote["triptych_id"].null_count == remote["triptych_time"].null_count == 0


def test_pictures_have_the_same_answers_to_the_last_bit(stack: LocalStack) -> None:
    options = {"parameters": {"top_k": 2}, "text": ["label"], "in_flight": 1, "max_rows": 4}
    remote, local = both(stack, "digits_de", pictures_table(14), **options)
    assert remote == local
    assert remote["label"].type == pa.list_(pa.string())
    assert {len(scores) for scores in remote["score"].to_pylist()} == {2}


def test_rows_that_the_stack_refuses_are_named_or_kept(stack: LocalStack) -> None:
    table = pictures_table(9)
    images = table["image"].to_pylist()
    images[2], images[7] = b"no picture", b""
    table = pa.table({"image": pa.array(images, pa.binary())})
    with Ask("digits_de", address=stack.address("preprocess"), on_bad_rows="keep") as ask:
        answers = ask(table).to_pylist()
    assert [row for row, answer in enumerate(answers) if answer["error"]] == [2, 7]
    assert [row for row, answer in enumerate(answers) if answer["label"] is None] == [2, 7]
    assert answers[2]["error"]["code"] == "INVALID_ARGUMENT"
    assert "image" in answers[2]["error"]["text"]
    with Ask("digits_de", address=stack.address("preprocess")) as ask, pytest.raises(RefusedRow) as caught:
        ask(table)
    assert (caught.value.row, caught.value.code) == (2, "INVALID_ARGUMENT")


def test_a_wrong_parameter_is_no_fault_of_the_rows(stack: LocalStack) -> None:
    with (
        Ask("digits_de", address=stack.address("preprocess"), parameters={"topk": 2}, on_bad_rows="keep") as ask,
        pytest.raises(RequestFailed, match="topk"),
    ):
        ask(pictures_table(3))


def test_an_alias_and_the_traffic_are_one_version_for_all_rows(make_stack: MakeStack) -> None:
    stack = make_stack({"digits.yaml": ALIASED})
    address, table = stack.address("preprocess"), pictures_table(24)

    def versions(**options: Any) -> set[int]:
        with Ask("digits_gb", address=address, records=True, max_rows=1, **options) as ask:
            return set(ask(table)["triptych_version"].to_pylist())

    assert versions(version="production") == {2}
    assert versions(version=1) == {1}
    assert versions() == {1}  # which has most of the traffic
    assert versions(pin=False) == {1, 2}
    with Ask("digits", address=address, parameters={"route": "GB"}, pin=False, version="production") as ask:
        assert ask(table).num_rows == 24
    with Ask("digits", address=address, parameters={"route": "GB"}) as ask, pytest.raises(InvalidOptions, match="pin"):
        ask(table)


def test_a_killed_preprocess_costs_no_row_and_doubles_none(make_stack: MakeStack) -> None:
    stack = make_stack(variables={"PREPROCESS_MAX_MESSAGE_BYTES": str(256 << 10)})
    table = sales_table(6000)
    back = threading.Thread(target=lambda: stack.restart_component("preprocess"))

    def batches() -> Iterator[Any]:
        for at, batch in enumerate(table.to_batches(max_chunksize=200)):
            if at == 10:
                stack.kill_component("preprocess")
                back.start()
            yield batch

    with Ask("sales_forecast_de", address=stack.address("preprocess"), keep=["shop"], max_rows=20) as ask:
        try:
            answers = pa.Table.from_batches(ask.over(batches()))
        finally:
            back.join()
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["shop"], max_rows=20) as ask:
        assert answers.combine_chunks() == ask(table).combine_chunks()

    # Pictures of which not all fit into one message: the server refuses them together, and takes them in parts.
    pictures = pictures_table(32)
    assert pictures.nbytes > 256 << 10
    with Ask("digits_de", address=stack.address("preprocess")) as ask:
        assert ask(pictures).num_rows == 32


def test_who_is_no_preprocess_is_named(stack: LocalStack) -> None:
    for name in ("predictor", "controller"):
        with Ask("sales_forecast_de", address=stack.address(name), connect_s=0) as ask:
            with pytest.raises(RequestFailed) as caught:
                ask(sales_table(3).drop_columns(["shop"]))
            assert caught.value.code == "UNIMPLEMENTED", name


def test_an_address_without_a_server_is_named() -> None:
    with Ask("sales_forecast_de", address="127.0.0.1:1", connect_s=0.5) as ask, pytest.raises(RequestFailed) as caught:
        ask.schema(sales_table(1).schema)
    assert caught.value.code == "UNAVAILABLE"
    assert "127.0.0.1:1" in caught.value.text


@pytest.fixture(scope="module")
def jobs(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the service of jobs in front of the stack."""
    free = free_endpoints()["preprocess"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_PORT", str(free.port))
        patch.setenv("JOBS_METRICS_PORT", str(free.metrics_port))
        with running_jobs(stack.address("preprocess"), tmp_path_factory.mktemp("jobs")) as process:
            yield process.address


@pytest.mark.parametrize(("example", "printed"), list(zip(EXAMPLES, PRINTED, strict=True)))
def test_the_examples_of_the_guide_run(
    stack: LocalStack, jobs: str, tmp_path: Path, example: str, printed: str
) -> None:
    for name in ("examples", "model-repository", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    program = example.replace("127.0.0.1:9000", stack.address("preprocess")).replace("127.0.0.1:9003", jobs)
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert printed in ran.stdout


def test_the_commands_of_the_page_of_jobs_run_as_printed(jobs: str, tmp_path: Path) -> None:
    document, *_ = re.findall(r"^```yaml\n(.*?)^```$", JOBS_GUIDE, re.MULTILINE | re.DOTALL)
    commands, *_ = re.findall(r"^```sh\n(.*?)^```$", JOBS_GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / "job.yaml").write_text(document)
    pq.write_table(sales_table(100), tmp_path / "sales.parquet")
    for line in commands.splitlines():
        command, *words = shlex.split(line)
        assert command == "triptych"
        ran = subprocess.run(
            [sys.executable, "-m", "triptych_cli", *words],
            cwd=tmp_path,
            env={**os.environ, "TRIPTYCH_JOBS": jobs},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
    assert pq.read_table(tmp_path / "answers.parquet").num_rows == 100
    assert " succeeded " in ran.stdout
