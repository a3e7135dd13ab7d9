"""JSON logs on standard error: one object for each line."""

from __future__ import annotations

import logging
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from triptych.errors import clipped

MAX_FIELD = 4_096  # characters of a field; texts of callers may be of any length
MAX_TRACEBACK = 16_384


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


def formatter(stage: str) -> logging.Formatter:
    """Formatter of one JSON object for each record."""
    return _BoundedFormatter(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        static_fields={"stage": stage},
        rename_fields={"levelname": "level", "name": "logger"},
    )


def configure(stage: str, level: str) -> None:
    """Send all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(stage))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("grpc").setLevel("WARNING")
