"""JSON logs on standard error: one object for each line."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from triptych.errors import clipped

log = logging.getLogger(__name__)

UNRAISABLE_S = 60.0
MAX_FIELD = 4_096  # characters of a field; texts of callers may be of any length
MAX_TRACEBACK = 16_384
CAUSED_BY_CALLERS = ("triptych.request", "triptych.server")  # loggers: requests refused, internal errors


class _BoundedFormatter(JsonFormatter):
    """Formatter that clips long texts in any field."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        for name, value in log_data.items():
            if isinstance(value, str) and len(value) > MAX_FIELD:
                log_data[name] = _ends(value) if name == "exc_info" else clipped(value, MAX_FIELD)
        return log_data


def _ends(traceback: str) -> str:
    """First and last part of a long traceback: the entry point and the error."""
    half = MAX_TRACEBACK // 2
    return traceback if len(traceback) <= MAX_TRACEBACK else f"{traceback[:half]}\n...\n{traceback[-half:]}"


class LineLimit(logging.Filter):
    """Lets so many lines of one message pass in a second, 0: any number. The next one has the number left out.

    Callers cause lines, of which a wrong request is the cheapest: 3,000 a second with long names were 10 MB.
    """

    def __init__(self, lines_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines_per_s, self._clock = lines_per_s, clock
        self._counted: dict[str, _Second] = {}  # by message, which is a text of ours

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._lines_per_s or record.levelno < logging.INFO:
            return True
        now_s = self._clock()
        second = self._counted.setdefault(str(record.msg), _Second(now_s))
        if now_s - second.since_s >= 1:
            if second.suppressed:
                record.suppressed = second.suppressed + getattr(record, "suppressed", 0)
            second.since_s, second.lines, second.suppressed = now_s, 0, 0
        second.lines += 1
        if second.lines > self._lines_per_s:
            second.suppressed += 1
            return False
        return True


@dataclass
class _Second:
    since_s: float
    lines: int = 0
    suppressed: int = 0


def formatter(stage: str) -> logging.Formatter:
    """Formatter of one JSON object for each record."""
    return _BoundedFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        static_fields={"stage": stage},
        rename_fields={"levelname": "level", "name": "logger"},
    )


def configure(stage: str, level: str, lines_per_s: int = 0) -> None:
    """Send all logs of the process to standard error as JSON. `lines_per_s` limits those that callers cause."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(stage))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in CAUSED_BY_CALLERS:
        logging.getLogger(name).addFilter(LineLimit(lines_per_s))
    logging.getLogger("grpc").setLevel("WARNING")
    sys.unraisablehook = _UnraisableLog()


class _UnraisableLog:
    """Logs errors that Python cannot raise, one of a kind within `UNRAISABLE_S`; Python writes a traceback for each.

    Callers can cause them: by a TLS server name that is not ASCII.
    """

    def __init__(self) -> None:
        self._logged_s: dict[type[BaseException], float] = {}

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        kind, now_s = unraisable.exc_type, time.monotonic()
        if now_s - self._logged_s.get(kind, -math.inf) < UNRAISABLE_S:
            return
        self._logged_s[kind] = now_s
        about = {"where": repr(unraisable.object), "error": repr(unraisable.exc_value)}
        log.warning(unraisable.err_msg or "exception ignored", extra=about)
