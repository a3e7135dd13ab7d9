"""A batch on Ray and on Spark, by its document and by hand.

The same files of Parquet are answered by `triptych batch run --engine`, and by a program of about 20 lines that a team
would write for the engine, with ONNX Runtime and steps that check nothing. They take turns, each on an engine of this
machine that is started for it. The time is from the start of the engine to the output.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report
from benchmarks.serving.figures.statistics import Spread
from examples.models.progress import TaskProgress
from local.environments import ROOT, ensure
from local.errors import LocalError

HELP = "a batch on Ray and on Spark, by its document and by hand"
TITLE = "Batches on engines"

MODEL: Final = ROOT / "model-repository/sales_forecast_de"
PROGRAMS: Final = {"ray": "benchmarks.engine_programs.ray_by_hand", "spark": "benchmarks.engine_programs.spark_by_hand"}
VARIABLES: Final = {
    "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION": "0.02",
    "RAY_USAGE_STATS_ENABLED": "0",
    "SPARK_LOCAL_IP": "127.0.0.1",
    "PYSPARK_SUBMIT_ARGS": "--driver-memory 1g --conf spark.ui.enabled=false pyspark-shell",
}
FILES: Final = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--systems", default="ray,spark", help="engines, separated by commas")
    parser.add_argument("--rows", type=int, default=400_000, help="of sales_forecast")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")


def main(given: argparse.Namespace, report: Report) -> None:
    """Measure each engine. Raises `LocalError`."""
    progress, systems = TaskProgress(), given.systems.split(",")
    if unknown := set(systems) - PROGRAMS.keys():
        raise LocalError(f"--systems: want {', '.join(PROGRAMS)}, got {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="triptych-engines-") as folder:
        _write_data(Path(folder) / "data", given.rows)
        for system in systems:
            python = ensure(system)
            seconds: dict[str, list[float]] = {"document": [], "by hand": []}
            for number in range(given.repeats):
                for name, way in (("document", _by_document), ("by hand", _by_hand)):
                    progress.begin(f"engines: {system}, round {number + 1} of {given.repeats}: {name}")
                    seconds[name].append(way(system, python, Path(folder), given.rows))
            _report(report, system, seconds)
    progress.end()


def _report(report: Report, system: str, seconds: Mapping[str, Sequence[float]]) -> None:
    ratios = [hand / own for own, hand in zip(seconds["document"], seconds["by hand"], strict=True)]
    rows = [[name, Spread.of(each).text] for name, each in seconds.items()]
    report.table(f"{system}: seconds, median (least..most)", ["", ""], rows)
    report.table(f"{system}: rows/s of the document to those by hand", ["", ""], [["ratio", Spread.of(ratios).text]])
    report.figures(system, {**seconds, "ratios": ratios})


def _write_data(folder: Path, rows: int) -> None:
    folder.mkdir()
    random, each = np.random.default_rng(0), rows // FILES
    for number in range(FILES):
        columns: dict[str, Any] = {"shop": [f"shop {number} {row}" for row in range(each)]}
        columns["history"] = list(random.integers(0, 50, (each, 28)).astype(np.float32))
        columns["price"] = list(random.integers(4, 40, (each, 7)).astype(np.float32) / 4)
        columns["promotion"] = list(random.random((each, 7)) > 0.7)
        pq.write_table(pa.table(columns), folder / f"sales-{number}.parquet")


def _by_document(system: str, python: Path, folder: Path, rows: int) -> float:
    document = {
        "apiVersion": "triptych.dev/v1",
        "kind": "Batch",
        "model": MODEL.name,
        "home": {"repository": str(MODEL.parent)},
        "read": {"uri": str(folder / "data")},
        "keep": ["shop"],
        "write": {"parquet": str(folder / "out")},
    }
    (folder / "nightly.yaml").write_text(json.dumps(document))
    words = ["triptych_cli", "batch", "run", str(folder / "nightly.yaml"), "--engine", system, "--quiet"]
    _run([str(python), "-m", *words])
    manifest = json.loads((folder / "out/_manifest.json").read_text())
    shutil.rmtree(folder / "out")
    if manifest["rows"] != rows // FILES * FILES:
        raise LocalError(f"engines: want {rows} rows, got {manifest['rows']}")
    return (datetime.fromisoformat(manifest["ended"]) - datetime.fromisoformat(manifest["started"])).total_seconds()


def _by_hand(system: str, python: Path, folder: Path, rows: int) -> float:
    words = [str(MODEL / "1/model.onnx"), str(folder / "data"), str(folder / "out")]
    seconds = float(_run([str(python), "-m", PROGRAMS[system], *words]).split()[-1])
    count = sum(pq.read_metadata(file).num_rows for file in (folder / "out").glob("*.parquet"))
    shutil.rmtree(folder / "out")
    if count != rows // FILES * FILES:
        raise LocalError(f"engines: want {rows} rows by hand, got {count}")
    return seconds


def _run(command: Sequence[str]) -> str:
    """Standard output of a program. Raises `LocalError`."""
    variables = os.environ | VARIABLES | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": command[0]}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise LocalError(f"{' '.join(command[1:3])} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
