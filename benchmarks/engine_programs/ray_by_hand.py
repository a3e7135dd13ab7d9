"""`python ray_by_hand.py MODEL DATA OUT`: map_batches with actors. Prints the seconds of Ray from its start."""

from __future__ import annotations

import sys
import time
from typing import Any

import ray.data

from benchmarks.engine_programs.forecasts import answers


class SalesModel:
    """An actor with the model."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, table: Any) -> Any:
        return answers(self._path, table)


def main(model: str, data: str, out: str) -> None:
    """Answer all rows."""
    started_s = time.monotonic()
    ray.init(log_to_driver=False, logging_level="warning", include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=int(ray.cluster_resources()["CPU"]))
    rows = ray.data.read_parquet(data)
    asked = rows.map_batches(
        SalesModel, fn_constructor_args=[model], batch_format="pyarrow", batch_size=4096, compute=pool
    )
    asked.write_parquet(out)
    print(time.monotonic() - started_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
