"""Discovery of predictors: every address that the names in the settings resolve to.

The name of a headless Service has one address for each ready pod, so predictors come and go without a change of
settings.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from triptych.runtime.addresses import is_numeric, join, split
from triptych.telemetry.failure_log import FailureLog

log = logging.getLogger(__name__)


class Discovery:
    """Resolves host:port names. A name that cannot be resolved keeps its last addresses."""

    def __init__(self, names: Sequence[str]) -> None:
        self._last: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
        self._failures = FailureLog(log)

    async def addresses(self) -> tuple[str, ...]:
        """host:port of each predictor, each once, in a stable order."""
        names = list(self._last)
        self._last = dict(zip(names, await asyncio.gather(*map(self._resolve, names)), strict=True))
        return tuple(dict.fromkeys(address for addresses in self._last.values() for address in addresses))

    async def _resolve(self, name: str) -> tuple[str, ...]:
        if is_numeric(name):
            return (name,)
        try:
            host, port = split(name)
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            self._failures.failed(name, "predictor cannot be resolved", predictor=name, reason=str(error))
            return self._last[name]
        self._failures.recovered(name)
        families = {family for family, *_ in found}
        wanted = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6  # not both for one predictor
        hosts = sorted({str(where[0]) for family, _, _, _, where in found if family == wanted})
        return tuple(join(each, port) for each in hosts)
