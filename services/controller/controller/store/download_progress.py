"""Progress of the downloads of one refresh."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.store.objects import Object


@dataclass(frozen=True)
class DownloadProgress:
    """Progress of the downloads of one refresh."""

    files: int
    total_files: int
    received_bytes: int
    total_bytes: int


OnProgress = Callable[[DownloadProgress], None]


class DownloadMeter:
    """Counts the downloads of all threads, and stops them."""

    def __init__(
        self, wanted: Mapping[str, Object], has_content: Callable[[str, Object], bool], on_progress: OnProgress
    ) -> None:
        sizes = [known.size for path, known in wanted.items() if has_content(path, known)]
        self._total_files, self._total_bytes, self._on_progress = len(sizes), sum(sizes), on_progress
        self._files = self._bytes = 0
        self._lock, self._stopped = threading.Lock(), threading.Event()

    def received(self, count: int) -> None:
        if self._stopped.is_set():
            raise InterruptedError("another download failed")
        self._tell(0, count)

    def done(self) -> None:
        self._tell(1, 0)

    def stop(self) -> None:
        self._stopped.set()

    def _tell(self, files: int, count: int) -> None:
        with self._lock:
            self._files += files
            self._bytes += count
            self._on_progress(DownloadProgress(self._files, self._total_files, self._bytes, self._total_bytes))
