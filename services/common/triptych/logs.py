"""JSON logs on standard error: one object a line, with the request's id where there is one."""

from __future__ import annotations

import logging

from pythonjsonlogger.json import JsonFormatter


def configure(stage: str, level: str) -> None:
    """Sends all logs of the process to standard error as JSON."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}",
            style="{",
            timestamp=True,
            static_fields={"stage": stage},
            rename_fields={"levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("grpc").setLevel("WARNING")
