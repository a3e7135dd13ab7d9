"""Log lines about conditions that last: one when a failure begins, one when it is over."""

from __future__ import annotations

import logging
from collections.abc import Container, Hashable


class FailureLog:
    """Logs a failure of a key once, until the key has recovered. A retry loop then writes one line."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._failed: set[Hashable] = set()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._failed

    def failed(self, key: Hashable, event: str, *, level: int = logging.WARNING, **fields: object) -> None:
        """Log the event if the key had not failed before."""
        if key not in self._failed:
            self._failed.add(key)
            self._logger.log(level, event, extra=fields)

    def recovered(self, key: Hashable, event: str = "", **fields: object) -> None:
        """Log the event, if there is one, when the key had failed before."""
        if key in self._failed:
            self._failed.remove(key)
            if event:
                self._logger.info(event, extra=fields)

    def prune(self, keys: Container[Hashable]) -> None:
        """Take all other keys as recovered, without a line."""
        self._failed = {key for key in self._failed if key in keys}
