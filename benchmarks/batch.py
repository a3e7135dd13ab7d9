"""Rows of a dataset by the client library, and what a batch costs the callers beside it.

The same Parquet file is answered by a loop that a team would write by hand (pyarrow, ONNX Runtime and the peers' pre-
and postprocessing, which check nothing), by `Ask` with a folder of models, and by `Ask` with a running Triptych. They
take turns. The contract of sales_forecast allows 256 rows in a request; here it allows 2,048, and both are asked. Then
callers with Poisson arrivals get half of the capacity, without and with a batch flat out in the background.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.report import Report
from benchmarks.serving.figures import goals
from benchmarks.serving.figures.statistics import Spread
from benchmarks.serving.measurement import load, measure
from benchmarks.serving.measurement.load import LoadResult
from benchmarks.serving.programs import work
from benchmarks.serving.systems.triptych import Triptych
from benchmarks.serving.workloads import BOX, DIGITS, MODELS, PICTURE, SALES, WORKLOADS
from examples.models.progress import TaskProgress
from local.programs.perf import PerfAnalyzer, ensure_perf_analyzer
from triptych_client import Ask

HELP = "rows of a dataset by the client library and by hand, and callers beside a batch"
TITLE = "Batches"

BATCH_ROWS = {SALES: 4_096, DIGITS: 256}  # of a record batch
REQUEST_ROWS = {SALES: 2_048, DIGITS: 64}  # of a request
CONTRACT_ROWS = 256  # that the contract of sales_forecast allows
INPUTS = {SALES: ("history", "price", "promotion"), DIGITS: ("image", "box")}
CALLERS, LOAD = 64, 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=300_000, help="of sales_forecast")
    parser.add_argument("--pictures", type=int, default=3_000, help="of digits, 640x480")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")


def main(given: argparse.Namespace, report: Report) -> None:
    """Measure the rates, then the callers beside a batch. Raises `LocalError`."""
    progress = TaskProgress()
    found: list[goals.Goal] = []
    with tempfile.TemporaryDirectory(prefix="triptych-batch-") as folder:
        files = {SALES: _sales(given.rows, Path(folder)), DIGITS: _pictures(given.pictures, Path(folder))}
        models = _models(Path(folder) / "models")
        stack = Triptych(models)
        (Path(folder) / "stack").mkdir()
        stack.start(Path(folder) / "stack", [WORKLOADS["W1"], WORKLOADS["W2"]])
        try:
            for model, file in files.items():
                found += _rates(given, report, progress, model, file, models, stack.address)
            found += _beside(given, report, progress, files[SALES], stack, Path(folder))
        finally:
            stack.stop()
    progress.end()
    goals.add_to(report, found)


def _rates(
    given: argparse.Namespace,
    report: Report,
    progress: TaskProgress,
    model: str,
    file: Path,
    models: Path,
    address: str,
) -> list[goals.Goal]:
    ways: dict[str, Callable[[], int]] = {
        "by hand": lambda: _by_hand(model, file),
        "local": lambda: _by_ask(model, file, repository=models),
        "remote": lambda: _by_ask(model, file, address=address),
    }
    if model == SALES:
        ways["remote, 256 rows a request"] = lambda: _by_ask(model, file, address=address, max_rows=CONTRACT_ROWS)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.repeats):
        for name, way in ways.items():
            progress.begin(f"batch: {model}, round {number + 1} of {given.repeats}: {name}")
            started_s = time.monotonic()
            rates[name].append(way() / (time.monotonic() - started_s))
    rows = [[name, f"{Spread.of(each).median:,.0f}", Spread.of(each).text] for name, each in rates.items()]
    report.table(f"{model}: rows/s", ["", "median", "median (least..most)"], rows)
    report.figures(model, rates)
    local, remote = _ratio(rates, "local", "by hand"), _ratio(rates, "remote", "local")
    return [
        *goals.at_least(f"{model}, rows/s: local to by hand", 0.9, local),
        *goals.at_least(f"{model}, rows/s: remote to local", 0.5 if model == SALES else 0.85, remote),
    ]


def _ratio(rates: Mapping[str, list[float]], one: str, other: str) -> Spread:
    return Spread.of(first / second for first, second in zip(rates[one], rates[other], strict=True))


def _by_hand(model: str, file: Path) -> int:
    """Rows answered by a loop over the file."""
    session = onnxruntime.InferenceSession(MODELS / model / "1/model.onnx", providers=["CPUExecutionProvider"])
    (output,), kind, count = session.get_outputs(), work.kind_of(model), 0
    for batch in pq.ParquetFile(file).iter_batches(REQUEST_ROWS[model]):
        inputs = {name: _array(batch.column(name)) for name in INPUTS[model]}
        (predicted,) = session.run([output.name], work.before(kind, inputs))
        answers = work.after(kind, {output.name: predicted})
        count += len(next(iter(answers.values())))
    return count


def _array(column: Any) -> Any:
    if pa.types.is_fixed_size_list(column.type):
        size = column.type.list_size
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, size)
    return np.array(column.to_pylist(), np.object_)


def _by_ask(model: str, file: Path, **home: Any) -> int:
    with Ask(model, version=1, **home) as ask:
        batches = pq.ParquetFile(file).iter_batches(BATCH_ROWS[model])
        return sum(answers.num_rows for answers in ask.over(batches))


def _beside(
    given: argparse.Namespace, report: Report, progress: TaskProgress, file: Path, stack: Triptych, folder: Path
) -> list[goals.Goal]:
    """Callers of single rows at half of the capacity, alone and beside a batch."""
    program = ensure_perf_analyzer()
    prepared = measure.prepare(program, stack, WORKLOADS["W1"], folder)
    progress.begin("batch: the capacity")
    capacity = load.closed(program, prepared.target, CALLERS, 20_000).rate
    rate, count = LOAD * capacity, round(LOAD * capacity * given.seconds)
    p99: dict[str, list[float]] = {"alone": [], "beside a batch": [], "beside one not in the background": []}
    shares: list[float] = []
    for number in range(given.repeats):
        progress.begin(f"batch: callers beside it, round {number + 1} of {given.repeats}")
        p99["alone"].append(_callers(program, prepared, rate, count).ms(99))
        batch_alone = _Running(file, stack.address, background=True)
        time.sleep(given.seconds)
        alone = batch_alone.stop()
        for name, background in (("beside a batch", True), ("beside one not in the background", False)):
            batch = _Running(file, stack.address, background=background)
            p99[name].append(_callers(program, prepared, rate, count).ms(99))
            rows_s = batch.stop()
            if background:
                shares.append(rows_s / (alone * (1 - LOAD)))
    rows = [[name, Spread.of(each).text] for name, each in p99.items()]
    report.table(
        f"Callers at {rate:,.0f} requests/s, half of the capacity: p99, ms", ["", "median (least..most)"], rows
    )
    report.table("The batch beside them", ["", ""], [["of half of its rows/s alone", Spread.of(shares).text]])
    report.figures("beside", {"p99_ms": p99, "shares": shares})
    return [
        *goals.at_most("p99 of callers beside a batch to that alone", 1.2, _ratio(p99, "beside a batch", "alone")),
        *goals.at_least("rows/s of the batch to half of those alone", 0.7, Spread.of(shares)),
    ]


def _callers(program: PerfAnalyzer, prepared: measure.Prepared, rate: float, count: int) -> LoadResult:
    return load.poisson(program, prepared.target, rate, count)


class _Running:
    """A batch that asks the same rows again and again until it is stopped."""

    def __init__(self, file: Path, address: str, background: bool) -> None:
        self._stopping, self._rows, self._started_s = threading.Event(), 0, time.monotonic()
        self._ask = Ask(SALES, address=address, version=1, background=background)
        self._file = file
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> float:
        """Rows/s since the start."""
        rate = self._rows / (time.monotonic() - self._started_s)
        self._stopping.set()
        self._thread.join()
        self._ask.close()
        return rate

    def _run(self) -> None:
        for answers in self._ask.over(self._batches()):
            self._rows += answers.num_rows

    def _batches(self) -> Iterator[Any]:
        while True:
            for batch in pq.ParquetFile(self._file).iter_batches(BATCH_ROWS[SALES]):
                if self._stopping.is_set():
                    return
                yield batch


def _models(folder: Path) -> Path:
    """The example models, with more rows in a request of sales_forecast."""
    for model in (SALES, DIGITS):
        shutil.copytree(MODELS / model, folder / model)
    for file in ("config.pbtxt", "1/contract.yaml"):
        path = folder / SALES / file
        text = path.read_text()
        assert text.count(f": {CONTRACT_ROWS}") == 1, f"{path} has another limit of rows"
        path.write_text(text.replace(f": {CONTRACT_ROWS}", f": {REQUEST_ROWS[SALES]}"))
    return folder


def _sales(rows: int, folder: Path) -> Path:
    random = np.random.default_rng(0)
    columns = {
        "history": random.integers(0, 50, (rows, 28)).astype(np.float32),
        "price": random.integers(1, 80, (rows, 7)).astype(np.float32) / 4,
        "promotion": random.random((rows, 7)) > 0.5,
    }
    table = pa.table({name: _lists(array) for name, array in columns.items()})
    pq.write_table(table, folder / "sales.parquet")
    return folder / "sales.parquet"


def _pictures(rows: int, folder: Path) -> Path:
    boxes = np.tile(np.array(BOX, np.int32), (rows, 1))
    table = pa.table({"image": pa.array([PICTURE.read_bytes()] * rows), "box": _lists(boxes)})
    pq.write_table(table, folder / "pictures.parquet", row_group_size=1_000)
    return folder / "pictures.parquet"


def _lists(array: Any) -> Any:
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
