"""The progress of a run, as a reporter shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RunProgress:
    """Counts of a run. `asked` and `bad` are rows of this process, parts that are not committed among them."""

    parts: int = 0
    rows: int | None = None  # of the whole dataset, where it is known
    committed_parts: int = 0
    committed_rows: int = 0  # with the bad ones
    bad_rows: int = 0
    asked: int = 0
    resumed_rows: int = 0  # committed by earlier processes
    seconds: float = 0.0  # of this process, since the first part

    @property
    def done(self) -> int:
        """Rows that are answered."""
        return self.resumed_rows + self.asked

    @property
    def rows_per_s(self) -> float:
        """Rows in a second, of this process."""
        return self.asked / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Estimate of the seconds left; None without a measure."""
        if self.rows is None or not self.rows_per_s:
            return None
        return max(0.0, self.rows - self.done) / self.rows_per_s
