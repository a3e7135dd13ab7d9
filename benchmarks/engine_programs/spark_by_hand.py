"""`python spark_by_hand.py MODEL DATA OUT`: mapInArrow. Prints the seconds of Spark from its start."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession

from benchmarks.engine_programs.forecasts import answers


def main(model: str, data: str, out: str) -> None:
    """Answer all rows."""
    started_s = time.monotonic()
    session = SparkSession.builder.getOrCreate()

    def forecast(batches: Iterator[Any]) -> Iterator[Any]:
        return (answers(model, batch) for batch in batches)

    rows = session.read.parquet(data)
    rows.mapInArrow(forecast, "shop string, units array<bigint>, total bigint").write.parquet(out)
    print(time.monotonic() - started_s)
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
