"""Tables of columns for the example models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from local.environments import ROOT

PICTURES = sorted((ROOT / "examples/data").glob("*.[jp][pn]g"))


def sales_table(rows: int, seed: int = 0) -> Any:
    """Rows for `sales_forecast_de`, with a column `shop` that is no input."""
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "shop": [f"shop {row}" for row in range(rows)],
            "history": lists(random.integers(0, 50, (rows, 28)).astype(np.float32)),
            "price": lists(random.integers(1, 80, (rows, 7)).astype(np.float32) / 4),
            "promotion": lists(random.random((rows, 7)) > 0.5),
        }
    )


def pictures_table(rows: int) -> Any:
    """Rows for `digits_de`."""
    files = [file.read_bytes() for file in PICTURES]
    return pa.table({"image": pa.array([files[row % len(files)] for row in range(rows)], pa.binary())})


def lists(array: Any) -> Any:
    """The column of a matrix."""
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
