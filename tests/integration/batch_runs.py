"""Runs of `triptych batch run` in processes of their own, which a test may kill."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from local.environments import ROOT
from local.stack import MODEL_REPOSITORY
from tests.tables import sales_table
from triptych_cli.batch import query
from triptych_client import Ask

WAIT_S = 100.0
RESUMED = re.compile(r"goes on behind (\d+) rows")


@dataclass
class Batch:
    """A document in a folder of the test, with its dataset, and the runs of it."""

    folder: Path
    document: dict[str, Any] = field(default_factory=dict)
    engine: str = ""  # of `--engine`
    python: Path = Path(sys.executable)

    def __post_init__(self) -> None:
        self.document = {
            "apiVersion": "triptych.dev/v1",
            "kind": "Batch",
            "model": "sales_forecast_de",
            "home": {"repository": str(ROOT / "model-repository")},
            "read": {"uri": str(self.folder / "data")},
            "keep": ["number"],
            "write": {"parquet": str(self.output)},
            "limits": {"partRows": 200},
        } | self.document

    @property
    def output(self) -> Path:
        return self.folder / "out/forecasts"

    @property
    def run_folder(self) -> Path:
        return self.folder / f"out/.forecasts.{self.engine or 'run'}"

    def write_data(self, rows: int, name: str = "sales.parquet") -> Any:
        """Rows of the sales example with a number each."""
        table = sales_table(rows)
        table = table.append_column("number", pa.array(range(rows), pa.int64()))
        (self.folder / "data").mkdir(exist_ok=True)
        pq.write_table(table, self.folder / "data" / name, row_group_size=1000)
        return table

    def write_document(self) -> Path:
        """Write the document, and return its path."""
        path = self.folder / "nightly.yaml"
        path.write_text(json.dumps(self.document))
        return path

    def start(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        """Start a run, as a user does."""
        command = [str(self.python), "-m", "triptych_cli", "batch", "run", str(self.write_document()), *options]
        command += ["--engine", self.engine] if self.engine else []
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)

    def run(self, *options: str, wait_s: float = WAIT_S, **more: Any) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a run."""
        process = self.start(*options, **more)
        out, err = process.communicate(timeout=wait_s)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def killed_when(self, is_time: Callable[[], bool], number: int = signal.SIGKILL) -> bool:
        """Start a run and send a signal when it is time. Returns whether the run was faster."""
        process = self.start()
        until = time.monotonic() + WAIT_S
        while not is_time() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(number)
        process.communicate(timeout=WAIT_S)
        return process.returncode == 0

    def committed(self) -> int:
        """Committed parts, by the ledger of a run that may be working on it, or by the files of an engine."""
        if self.engine:
            return len({file.name.partition(".")[0] for file in self.run_folder.glob("parts-*/[0-9]*.json")})
        return self._asked("SELECT count(*) FROM triptych_parts WHERE kind = 'rows' AND state = 'committed'")

    def planned(self) -> int:
        return self._asked("SELECT count(*) FROM triptych_parts WHERE kind = 'rows'")

    def _asked(self, statement: str) -> int:
        try:
            with closing(sqlite3.connect(f"file:{self.run_folder}/ledger.sqlite?mode=ro", uri=True)) as connection:
                return int(connection.execute(statement).fetchone()[0])
        except sqlite3.OperationalError as error:  # before the run has made it, and behind its end
            if "unable to open" in str(error) or "no such table" in str(error):
                return 0
            raise

    def records(self) -> Any:
        """All records in the order of their rows."""
        files = sorted(map(str, self.output.glob("part-*.parquet")))
        return ds.dataset(files).to_table().sort_by([("triptych_file", "ascending"), ("triptych_row", "ascending")])

    def manifest(self) -> Any:
        return json.loads((self.output / "_manifest.json").read_text())

    def query(self, statement: str, *options: str) -> tuple[int, str, str]:
        """The same of `triptych batch query`, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = query.main([statement, str(self.output), *options])
        return status, out.getvalue(), err.getvalue()


def variables(**more: str) -> Mapping[str, str]:
    """The environment with some variables more."""
    return os.environ | more


def answers_of(table: Any, **options: Any) -> Any:
    """Answers of the folder of models, asked without a batch."""
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["number"], ignore_others=True, **options) as ask:
        return ask(table)
