"""Spark: each part is a row of a DataFrame in a partition of its own, which mapInArrow maps to what it has written."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, ClassVar, Final

import pyarrow as pa

from jobs.batch.engines.engine import AnsweredPart, PartFailed, PlannedPart, Task
from jobs.batch.errors import BatchError, Interrupted

MAX_PARTITIONS: Final = 10_000  # a partition is placed and retried as a whole
_PARTS: Final = "number int, spec string"
_ANSWERED: Final = "answered string"


class SparkEngine:
    """Answers parts by Spark, with the master and options of spark-submit, spark-defaults.conf or
    PYSPARK_SUBMIT_ARGS; without them on this machine.
    """

    name: ClassVar[str] = "spark"

    def __init__(self) -> None:
        """Raises `BatchError` without the package."""
        try:
            from pyspark.sql import SparkSession
        except ImportError as error:
            raise BatchError(f"Spark is missing ({error}); pip install './services/jobs[spark]'") from None
        self._builder = SparkSession.builder
        self._session: Any = None
        self._is_stopping = False

    def answer(self, task: Task, parts: Sequence[PlannedPart]) -> Generator[AnsweredPart, None, None]:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            partitions = min(len(parts), MAX_PARTITIONS)  # of a local list; an RDD would need more Python processes
            builder = self._builder.appName("triptych batch").config("spark.default.parallelism", str(partitions))
            self._session = session = builder.getOrCreate()
            if self._is_stopping:
                raise Interrupted("stopped")
            rows = session.createDataFrame([(part.number, part.spec) for part in parts], _PARTS)
            answered = rows.mapInArrow(mapper(task), _ANSWERED).collect()
        except (PySparkException, Py4JError, OSError) as error:
            raise PartFailed.found_in(str(error)) or Interrupted(f"Spark: {_reason(error)}") from error
        finally:
            if self._session is not None:
                self._session.stop()
        yield from (AnsweredPart.from_json(row.answered) for row in answered)

    def stop(self) -> None:
        self._is_stopping = True
        if self._session is not None:
            self._session.sparkContext.cancelAllJobs()


def mapper(task: Task) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """The function of mapInArrow."""

    def answered(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            for row in batch.to_pylist():
                try:
                    done = task(PlannedPart(row["number"], row["spec"]))
                except BatchError as error:
                    raise PartFailed.of(error) from error
                yield pa.RecordBatch.from_pydict({"answered": [done.as_json()]})

    return answered


def _reason(error: BaseException) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
