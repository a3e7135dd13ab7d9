"""A loaded version that cannot run is loaded anew: its process died or hangs, or its GPU has a fault.

Triton goes on saying that such a version is ready. It is suspect when Triton counts failures of it and no success
between them, or when a stage names the Triton where it cannot run. A made-up row then decides, so that one caller's bad
input gets nothing loaded anew. Reloads have a backoff that doubles, and a number after which they pause.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from controller.metrics import ControllerMetrics
from controller.placement.desired_state import Needs
from controller.placement.loader import Moves, Where
from controller.placement.policy.popularity import Key
from controller.placement.predictor import Pod
from controller.placement.settings import Limits
from controller.placement.warm_up import model_inputs
from triptych.client.triton_errors import inference_error
from triptych.contract import Contract, Plan
from triptych.errors import ContractViolation, Internal, ModelFailing, NotLoaded, TriptychError

log = logging.getLogger(__name__)

PROBE_S = 5.0  # Triton takes 1 s to find that a process is gone
LATELY_S = 60.0  # reloads within that time make the backoff longer
MAX_WORDS = 500


@dataclass
class _Trouble:
    """A version on one Triton. `words` are Triton's as long as it cannot run."""

    words: str = ""
    tries: int = 0  # reloads since it ran last
    streak: int = 0  # reloads of which each came soon after the one before
    reloaded_s: float = -math.inf  # when that was last


class Repair:
    """Checks what is suspect and loads it anew. `on_change` is told the models whose versions failed or recovered."""

    def __init__(
        self,
        limits: Limits,
        metrics: ControllerMetrics,
        needs: Needs,
        moves: Moves,
        on_change: Callable[[set[str]], None],
        clock: Callable[[], float],
    ) -> None:
        self._limits, self._metrics, self._needs, self._moves = limits, metrics, needs, moves
        self._on_change, self._clock = on_change, clock
        self._troubles: dict[Where, _Trouble] = {}
        self._checks: dict[Where, asyncio.Task[None]] = {}  # one for all who ask

    def look(self, pod: Pod) -> None:
        """After a count: starts checks of what is suspect, forgets what has recovered or is not there any more."""
        for where, trouble in list(self._troubles.items()):
            key, address = where
            if address != pod.address:
                continue
            if key in pod.succeeded:
                self._recovered(where, trouble)
            elif not pod.takes_room(key) and self._is_old(trouble):
                del self._troubles[where]
                self._show({key[0]})
        limit = self._limits.failing_requests
        for key in [key for key, count in pod.failing.items() if limit and count >= limit and key in pod.ready]:
            if self._is_due(key, pod):
                self._check(key, pod)

    async def check(self, key: Key, pods: Sequence[Pod]) -> None:
        """A stage says that the version cannot run on these Tritons; returns when each is checked or loads anew."""
        checks = [self._check(key, pod) for pod in pods if self._is_due(key, pod)]
        await asyncio.gather(*(asyncio.shield(check) for check in checks))

    def failing(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Why versions that a Triton has ready cannot run there."""
        found = {}
        for (key, address), trouble in self._troubles.items():
            if trouble.words and key[0] == model and key[1] in versions:
                found[key[1]] = f"it cannot run on {address}: {trouble.words} (loaded anew {trouble.tries} times)"
        return found

    def runs(self, key: Key, pod: Pod) -> bool:
        """Whether nothing is known against the version there."""
        trouble = self._troubles.get((key, pod.address))
        return trouble is None or not trouble.words

    def refusal(self, key: Key, pods: Sequence[Pod]) -> ModelFailing:
        """What a caller is told of a version that waits for its next reload."""
        wait_s = min(self._wait_s((key, pod.address)) for pod in pods)
        text = f"version {key[1]} of model '{key[0]}' cannot run; it is loaded anew in {math.ceil(wait_s)} s; try again"
        return ModelFailing(text, retry_after_s=max(wait_s, self._limits.reload_backoff_s))

    def forget(self, address: str) -> None:
        """A Triton went away."""
        for where in [where for where in self._troubles if where[1] == address]:
            del self._troubles[where]
            self._show({where[0][0]})

    async def close(self) -> None:
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    def _is_due(self, key: Key, pod: Pod) -> bool:
        """Whether a check can change anything: of what is known not to run, when its next reload may come."""
        return self.runs(key, pod) or not self._wait_s((key, pod.address))

    def _check(self, key: Key, pod: Pod) -> asyncio.Task[None]:
        where = (key, pod.address)
        task = self._checks.get(where)
        if task is None:
            task = self._checks[where] = asyncio.create_task(self._probe_and_reload(key, pod))
            task.add_done_callback(lambda done: self._checked(where, done))
        return task

    async def _probe_and_reload(self, key: Key, pod: Pod) -> None:
        contract = self._needs.contract_of(key)
        if contract is None or key not in pod.ready:
            return
        where, words = (key, pod.address), await _probe(key, pod, contract)
        if words is None:
            pod.failing.pop(key, None)
            if trouble := self._troubles.get(where):
                self._recovered(where, trouble)
            return
        trouble = self._troubles.setdefault(where, _Trouble())
        trouble.words = words[:MAX_WORDS]
        log.warning("model cannot run", extra=_facts(where) | {"reason": trouble.words, "tries": trouble.tries})
        if not self._wait_s(where) and key in pod.ready:
            trouble.streak = 1 if self._is_old(trouble) else trouble.streak + 1
            trouble.tries += 1
            trouble.reloaded_s = self._clock()
            words, trouble.words = trouble.words, ""  # nothing is known yet of the one that comes
            self._reload(key, pod, words)
        self._show({key[0]})

    def _reload(self, key: Key, pod: Pod, words: str) -> None:
        """Nobody needs to hear first that the version goes: it answers nothing."""
        wanted = self._needs.wanted[key]
        self._metrics.reloads.inc()
        self._moves.unload(key, pod, "failing version, loaded anew", at_once=True)
        self._needs.wanted[key] = max(1, wanted)
        self._moves.load(key, pod, f"cannot run: {words}")

    def _wait_s(self, where: Where) -> float:
        """Seconds until the version may be loaded anew there; 0 for now."""
        trouble = self._troubles.get(where)
        if trouble is None or not trouble.streak:
            return 0.0
        limits = self._limits
        pause_s = min(limits.reload_backoff_s * 2.0 ** (trouble.streak - 1), limits.reload_backoff_max_s)
        if trouble.tries >= limits.reload_tries:
            pause_s = limits.reload_pause_s
        return max(0.0, trouble.reloaded_s + pause_s - self._clock())

    def _is_old(self, trouble: _Trouble) -> bool:
        """Whether its last reload makes the next one no slower."""
        return self._clock() - trouble.reloaded_s > LATELY_S

    def _recovered(self, where: Where, trouble: _Trouble) -> None:
        """Its reloads of late still count: a version that dies again and again is not loaded in a circle."""
        (name, _), _ = where
        if trouble.words:
            log.info("model runs again", extra=_facts(where))
        trouble.words, trouble.tries = "", 0
        if self._is_old(trouble):
            del self._troubles[where]
        self._show({name})

    def _show(self, models: set[str]) -> None:
        self._metrics.failing.set(sum(bool(trouble.words) for trouble in self._troubles.values()))
        self._on_change(models)

    def _checked(self, where: Where, task: asyncio.Task[None]) -> None:
        del self._checks[where]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TriptychError):
            log.error("internal error", exc_info=error, extra=_facts(where))


async def _probe(key: Key, pod: Pod, contract: Contract) -> str | None:
    """Triton's words when a made-up row ends in a fault that is not the row's; else None."""
    row, plausible = await asyncio.to_thread(model_inputs, Plan(contract), 1)
    try:
        await pod.infer(key, row, PROBE_S)
    except (ContractViolation, NotLoaded):  # the row is refused, or the version is gone
        return None
    except Internal as error:
        meaning = inference_error("predictor", pod.address, error.details)
        at_fault = plausible if meaning is None else isinstance(meaning, ModelFailing)
        return error.details if at_fault else None
    except TriptychError:  # the Triton is away, full or too busy: that says nothing about the version
        return None
    return None


def _facts(where: Where) -> dict[str, object]:
    (model, version), address = where
    return {"model": model, "version": version, "predictor": address}
