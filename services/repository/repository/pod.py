"""One Triton: what it has ready by its own index, whether it answers, and what it failed to load."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tritonclient.grpc import model_config_pb2 as mc

from repository.triton import Predictor, Ready
from triptych.errors import StageUnavailable, TriptychError

log = logging.getLogger(__name__)

MISSES = 3  # a Triton too busy to answer in time still serves; after so many looks in a row it counts as gone


class Pod:
    """Bookkeeping for one predictor. `on_change` is told whenever `ready` or `answers` changes."""

    def __init__(
        self, predictor: Predictor, slots: int, on_change: Callable[[Pod], None], clock: Callable[[], float]
    ) -> None:
        self.address = predictor.address
        self.ready: Ready = frozenset()
        self.answers = False
        self.silence = "no answer yet"  # why it does not answer
        self.slots = asyncio.Semaphore(slots)
        self._predictor, self._on_change, self._clock = predictor, on_change, clock
        self._failures: dict[tuple[str, int], tuple[str, float]] = {}  # reason, and until when it counts
        self._misses = 0
        self._looking = asyncio.Lock()
        self._next_look: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Returns after a look at the index that began after this call; all who wait share one."""
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look())
        await asyncio.shield(self._next_look)

    async def load(self, model: str, timeout_s: float, config: mc.ModelConfig | None = None) -> None:
        """Raises what `Predictor.load` raises."""
        await self._predictor.load(model, timeout_s, config)

    async def reason(self, model: str, version: int) -> str:
        """Why Triton has the version not ready."""
        try:
            reason = await self._predictor.reason(model, version)
            return reason or f"Triton left version {version} out and gives no reason"
        except TriptychError as error:
            return str(error)

    def failure(self, model: str, version: int) -> str:
        """The reason of a failed load, as long as it is remembered."""
        reason, until = self._failures.get((model, version), ("", 0.0))
        return reason if self._clock() < until else ""

    def remember_failure(self, model: str, version: int, reason: str, ttl_s: float) -> None:
        now = self._clock()
        self._failures = {key: kept for key, kept in self._failures.items() if kept[1] > now}
        self._failures[model, version] = (reason, now + ttl_s)

    def forget_failures(self, model: str) -> None:
        self._failures = {key: kept for key, kept in self._failures.items() if key[0] != model}

    async def close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
        await self._predictor.close()

    async def _look(self) -> None:
        async with self._looking:
            self._next_look = None
            try:
                ready = await self._predictor.ready()
            except TriptychError as error:
                self._missed(error)
            else:
                self._misses = 0
                self._set(ready, answers=True)

    def _missed(self, error: TriptychError) -> None:
        self._misses += 1
        self.silence = str(error)
        if isinstance(error, StageUnavailable) or self._misses >= MISSES or not self.answers:
            self._failures.clear()  # whoever comes back there is a new process
            self._set(frozenset(), answers=False)

    def _set(self, ready: Ready, *, answers: bool) -> None:
        changed = (ready, answers) != (self.ready, self.answers)
        if answers and not self.answers:
            log.info("triton answers", extra={"predictor": self.address, "versions_ready": len(ready)})
        elif self.answers and not answers:
            log.warning("triton does not answer", extra={"predictor": self.address, "reason": self.silence})
        self.ready, self.answers = ready, answers
        if changed:
            self._on_change(self)
