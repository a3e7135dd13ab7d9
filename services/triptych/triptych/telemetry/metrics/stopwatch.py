"""Stopwatch for consecutive parts of the work on a request or a batch."""

from __future__ import annotations

import time
from collections.abc import Mapping

from triptych.telemetry.metrics.series import HistogramSeries


class Stopwatch:
    """Times consecutive parts. Each one goes into its histogram, and their sum into `parts`, in seconds."""

    __slots__ = ("_histograms", "_since_s", "parts")

    def __init__(self, histograms: Mapping[str, HistogramSeries], since_s: float) -> None:
        """`since_s` is the start of the first part, by `time.monotonic`."""
        self.parts: dict[str, float] = {}
        self._histograms, self._since_s = histograms, since_s

    def end(self, part: str) -> None:
        """End this part and start the next."""
        now_s, parts = time.monotonic(), self.parts
        took_s, self._since_s = now_s - self._since_s, now_s
        parts[part] = parts[part] + took_s if part in parts else took_s
        self._histograms[part].observe(took_s)

    def fork(self) -> Stopwatch:
        """A stopwatch with the parts so far, for work that is done beside other work."""
        forked = Stopwatch(self._histograms, self._since_s)
        forked.parts.update(self.parts)
        return forked
