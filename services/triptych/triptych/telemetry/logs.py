"""JSON logs on standard error: one object a line, with the request's id where there is one."""

from __future__ import annotations

import logging
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from triptych.errors import clipped

MAX_FIELD = 4_096  # characters; what came from outside may be of any length
MAX_TRACEBACK = 16_384


class _Bounded(JsonFormatter):
    """A line whose length is bounded: long texts are clipped, in whatever field they stand."""

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        for name, value in log_data.items():
            if isinstance(value, str) and len(value) > MAX_FIELD:
                log_data[name] = _ends(value) if name == "exc_info" else clipped(value, MAX_FIELD)
        return log_data


def _ends(traceback: str) -> str:
    """The first and the last part: where it came from, and what it was."""
    half = MAX_TRACEBACK // 2
    return traceback if len(traceback) <= MAX_TRACEBACK else f"{traceback[:half]}\n...\n{traceback[-half:]}"


def formatter(stage: str) -> logging.Formatter:
    """One JSON object for each record."""
    return _Bounded(
        "{levelname}{name}{message}",
        style="{",
        timestamp=True,
        static_fields={"stage": stage},
        rename_fields={"levelname": "level", "name": "logger"},
    )


def configure(stage: str, level: str) -> None:
    """Sends all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(stage))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("grpc").setLevel("WARNING")
