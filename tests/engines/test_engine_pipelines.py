"""The pipelines of examples/engines, as printed, on a real Ray and a real Spark."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from local.environments import ROOT
from local.stack import MODEL_REPOSITORY
from tests.engines.conftest import RunningEngine
from tests.tables import sales_table
from triptych_client import Ask

pytestmark = pytest.mark.timeout(3600)


def test_a_pipeline_of_the_engine_gives_the_answers_of_the_client(engine: RunningEngine, tmp_path: Path) -> None:
    table = sales_table(1000)
    pq.write_table(table, tmp_path / "sales.parquet", row_group_size=250)
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["shop"]) as ask:
        wanted = ask(table)
    program = ROOT / f"examples/engines/{engine.name}_sales.py"
    words = [str(tmp_path / "sales.parquet"), str(tmp_path / "out"), str(MODEL_REPOSITORY)]
    command = [str(engine.python), str(program), *words]
    done = subprocess.run(command, env=dict(engine.variables), capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]
    answers = ds.dataset(sorted(map(str, (tmp_path / "out").glob("*.parquet")))).to_table()
    assert answers["error"].null_count == 1000
    got = dict(zip(answers["shop"].to_pylist(), answers["units"].to_pylist(), strict=True))
    assert got == dict(zip(wanted["shop"].to_pylist(), wanted["units"].to_pylist(), strict=True))
