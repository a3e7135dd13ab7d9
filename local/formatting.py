"""Text of an example and of its answer, for the terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from local.examples import ExampleAnswer, ExampleRequest

BLOCKS = "▁▂▃▄▅▆▇█"
SHOWN_ROWS = 4


def format_request(example: ExampleRequest) -> str:
    """The title, and one line with the model, its parameters and its inputs."""
    given = ", ".join(f"{name}={value}" for name, value in example.parameters.items())
    sent = [", ".join(example.files)] if example.files else []
    sent += [_brief(name, array) for name, array in example.inputs.items() if array.dtype != np.object_]
    return f"{example.title}\n  {example.model_name}({given})  <-  {'; '.join(sent)}"


def format_answer(got: ExampleAnswer, seconds: float) -> str:
    """The version and the duration, and one line for each row of the answer."""
    head = f"  -> {got.model_name} version {got.model_version}, {1000 * seconds:.1f} ms"
    rows = len(next(iter(got.outputs.values())))
    return "\n".join([head, *("     " + _row(got, row) for row in range(rows))])


def _row(got: ExampleAnswer, row: int) -> str:
    outputs = got.outputs
    if "label" in outputs and "score" in outputs:
        pairs = zip(outputs["label"][row], outputs["score"][row], strict=True)
        return ",  ".join(f"{label.decode('utf-8')} {100 * score:.1f} %" for label, score in pairs)
    return ";  ".join(f"{name} {_values(array[row])}{_sparkline_of(array[row])}" for name, array in outputs.items())


def _sparkline_of(row: Any) -> str:
    """A sparkline for three numbers and more, else nothing."""
    values = np.atleast_1d(row)
    return f"  {sparkline(values)}" if values.size > 2 and values.dtype.kind in "iuf" else ""


def _brief(name: str, array: np.ndarray[Any, Any]) -> str:
    """A sparkline of the first row for FP inputs of several columns, else the values."""
    if array.dtype.kind == "f" and array.shape[-1] > 1:
        row = array.reshape(-1, array.shape[-1])[0]
        return f"{name} {sparkline(row)} ({row.min():g} to {row.max():g})"
    return f"{name} " + " / ".join(_values(row) for row in array[:SHOWN_ROWS])


def _values(row: Any) -> str:
    values = np.atleast_1d(row).tolist()
    if all(isinstance(value, bool) for value in values):
        return "".join("x" if value else "." for value in values)
    return " ".join(_value(value) for value in values)


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return f"{value:g}" if isinstance(value, float) else str(value)


def sparkline(row: np.ndarray[Any, Any]) -> str:
    """One block character per value; the lowest value is the shortest block."""
    low, high = float(row.min()), float(row.max())
    span = (high - low) or 1.0
    return "".join(BLOCKS[int((float(value) - low) / span * (len(BLOCKS) - 1))] for value in row)
