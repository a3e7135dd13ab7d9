"""Ray Data: each part is a row of a dataset, which a task maps to what it has written."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ClassVar, Final

from jobs.batch.engines.engine import AnsweredPart, PartFailed, PlannedPart, Task
from jobs.batch.errors import BatchError, Interrupted

MAX_BLOCKS: Final = 10_000  # of a dataset; a block is placed and retried as a whole
ATTEMPTS: Final = 4  # at a part whose server or store is away, as Spark has it; lost workers do not count


class RayEngine:
    """Answers parts by Ray Data, on the cluster of RAY_ADDRESS, else on a Ray that ends with this process."""

    name: ClassVar[str] = "ray"

    def __init__(self) -> None:
        """Raises `BatchError` without the package."""
        try:
            import ray.data
        except ImportError as error:
            raise BatchError(f"Ray Data is missing ({error}); pip install './services/jobs[ray]'") from None
        self._ray = ray
        self._is_stopping = False

    def answer(self, task: Task, parts: Sequence[PlannedPart]) -> Generator[AnsweredPart, None, None]:
        ray = self._ray
        is_ours = not ray.is_initialized()
        if is_ours:
            self._connect()
        try:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.retried_map_errors, context.max_map_retries = True, ATTEMPTS - 1
            items = [{"number": part.number, "spec": part.spec} for part in parts]
            rows = ray.data.from_items(items, override_num_blocks=min(len(items), MAX_BLOCKS))
            for row in rows.map(mapper(task)).iter_rows():
                if self._is_stopping:
                    raise Interrupted("stopped")
                if error := PartFailed.found_in(row["failure"]):
                    raise error
                yield AnsweredPart.from_json(row["answered"])
        except ray.exceptions.RayError as error:
            raise PartFailed.found_in(str(error)) or Interrupted(f"Ray: {_reason(error)}") from error
        finally:
            if is_ours:
                ray.shutdown()

    def _connect(self) -> None:
        """Raises `Interrupted`."""
        options = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
        try:
            self._ray.init(log_to_driver=False, logging_level="error", **options)
        except Exception as error:  # of many classes, `Exception` among them
            raise Interrupted(f"Ray: {_reason(error)}") from error

    def stop(self) -> None:
        self._is_stopping = True  # seen at the next part: what another thread does to Ray meanwhile is not defined


def mapper(task: Task) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    """The function that Ray maps. A part that fails for good is a row, too: Ray tries again after an error."""

    def answered(row: Mapping[str, Any]) -> dict[str, str]:
        try:
            done = task(PlannedPart(int(row["number"]), str(row["spec"])))
            return {"answered": done.as_json(), "failure": ""}
        except BatchError as error:
            failure = PartFailed.of(error)
            if isinstance(error, Interrupted):
                raise failure from error
            return {"answered": "", "failure": str(failure)}

    return answered


def _reason(error: BaseException) -> str:
    """The last line that says something: Ray puts the trace of the worker before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
