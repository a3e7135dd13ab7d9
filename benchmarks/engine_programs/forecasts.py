"""Forecasts of a table by ONNX Runtime and hand-written steps that check nothing."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa

from benchmarks.serving.programs import work


@cache
def _session(model: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answers(model: str, table: Any) -> Any:
    """The columns shop, units and total of a `pyarrow.Table` or `RecordBatch`, as the same."""
    inputs = {name: _array(table.column(name)) for name in ("history", "price", "promotion")}
    session = _session(model)
    (forecast,) = session.run([session.get_outputs()[0].name], work.before("sales", inputs))
    units, total = work.sales_after(forecast)
    offsets = np.arange(0, units.size + 1, units.shape[1], dtype=np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(units.reshape(-1)))
    columns = {"shop": table.column("shop"), "units": lists, "total": pa.array(total)}
    return type(table).from_pydict(columns)


def _array(column: Any) -> Any:
    """The matrix of a column of lists of one size."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
