"""Repair: a ready version that cannot run is loaded anew. Its process died or hangs, or its GPU has a fault.

Triton keeps reporting such a version as ready. A version is suspect when Triton counts failures of it and no success
between them, or when a stage names the predictor where it cannot run. A probe with a made-up row then decides, so that
bad input of one caller causes no reload. Reloads have a backoff that doubles, and a limit after which they pause.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from controller.metrics import ControllerMetrics
from controller.placement.planner import Action, Evict, Load
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.settings import PlacementSettings
from controller.placement.state import Replica, State
from controller.placement.warm_up import made_up_values
from triptych.client.triton_errors import inference_error
from triptych.contract import Plan
from triptych.errors import ContractViolation, Internal, ModelFailing, NotLoaded, TriptychError

log = logging.getLogger(__name__)

PROBE_TIMEOUT_S = 5.0  # Triton takes 1 s to find that a process is gone
STREAK_S = 60.0  # reloads within that time make the backoff longer
MAX_REASON = 500


@dataclass
class _Failing:
    """A version on one predictor. `reason` is Triton's as long as it cannot run."""

    reason: str = ""
    tries: int = 0  # reloads since it ran last
    streak: int = 0  # reloads of which each came soon after the one before
    reloaded_s: float = -math.inf  # when that was last


class Repair:
    """Probes suspect versions and reloads them. Calls `publish` with models whose versions failed or recovered."""

    def __init__(
        self,
        settings: PlacementSettings,
        metrics: ControllerMetrics,
        state: State,
        execute: Callable[[Iterable[Action]], None],
        publish: Callable[[set[str]], None],
    ) -> None:
        self._settings, self._metrics, self._state = settings, metrics, state
        self._execute, self._publish = execute, publish
        self._failing: dict[Replica, _Failing] = {}
        self._checks: dict[Replica, asyncio.Task[None]] = {}  # single-flight

    def observe(self, predictor: Predictor) -> None:
        """Probe suspect versions after new statistics, and forget those that recovered or were unloaded."""
        for replica, known in list(self._failing.items()):
            key, address = replica
            if address != predictor.address:
                continue
            if key in predictor.statistics.succeeded:
                self._recovered(replica, known)
            elif not predictor.takes_capacity(key) and self._is_old(known):
                del self._failing[replica]
                self._changed({key[0]})
        limit = self._settings.failing_requests
        for key, count in list(predictor.statistics.failing.items()):
            if limit and count >= limit and key in predictor.ready and self._is_due(key, predictor):
                self._check(key, predictor)

    async def check(self, key: VersionKey, predictors: Sequence[Predictor]) -> None:
        """Probe a version that cannot run on these predictors by a stage; return when each is probed or reloads."""
        checks = [self._check(key, predictor) for predictor in predictors if self._is_due(key, predictor)]
        await asyncio.gather(*(asyncio.shield(check) for check in checks))

    def failing(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reasons of ready versions that cannot run on some predictor."""
        found = {}
        for (key, address), known in self._failing.items():
            if known.reason and key[0] == model and key[1] in versions:
                found[key[1]] = f"it cannot run on {address}: {known.reason} (loaded anew {known.tries} times)"
        return found

    def runs(self, key: VersionKey, predictor: Predictor) -> bool:
        """Whether no failure of the version there is known."""
        known = self._failing.get((key, predictor.address))
        return known is None or not known.reason

    def refusal(self, key: VersionKey, predictors: Sequence[Predictor]) -> ModelFailing:
        """The error for callers of a version that waits for its next reload."""
        wait_s = min(self._wait_s((key, predictor.address)) for predictor in predictors)
        text = f"version {key[1]} of model '{key[0]}' cannot run; it is loaded anew in {math.ceil(wait_s)} s; try again"
        return ModelFailing(text, retry_after_s=max(wait_s, self._settings.reload_backoff_s))

    def forget(self, address: str) -> None:
        """The predictor no longer exists."""
        for replica in [replica for replica in self._failing if replica[1] == address]:
            del self._failing[replica]
            self._changed({replica[0][0]})

    async def close(self) -> None:
        checks = list(self._checks.values())
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)

    def _is_due(self, key: VersionKey, predictor: Predictor) -> bool:
        """Whether a probe can change anything: not before the next reload of a version known not to run."""
        return self.runs(key, predictor) or not self._wait_s((key, predictor.address))

    def _check(self, key: VersionKey, predictor: Predictor) -> asyncio.Task[None]:
        replica = (key, predictor.address)
        task = self._checks.get(replica)
        if task is None:
            task = self._checks[replica] = asyncio.create_task(self._probe_and_reload(key, predictor))
            task.add_done_callback(lambda done: self._checked(replica, done))
        return task

    async def _probe_and_reload(self, key: VersionKey, predictor: Predictor) -> None:
        plan = await self._state.versions.plan_of(key)
        if plan is None or key not in predictor.ready:
            return
        replica, reason = (key, predictor.address), await _probe(key, predictor, plan)
        if reason is None:
            predictor.statistics.failing.pop(key, None)
            if known := self._failing.get(replica):
                self._recovered(replica, known)
            return
        known = self._failing.setdefault(replica, _Failing())
        known.reason = reason[:MAX_REASON]
        log.warning("model cannot run", extra=_facts(replica) | {"reason": known.reason, "tries": known.tries})
        if not self._wait_s(replica) and key in predictor.ready:
            known.streak = 1 if self._is_old(known) else known.streak + 1
            known.tries += 1
            known.reloaded_s = self._state.now_s
            reason, known.reason = known.reason, ""  # nothing is known yet of the one that comes
            self._reload(key, predictor, reason)
        self._changed({key[0]})

    def _reload(self, key: VersionKey, predictor: Predictor, reason: str) -> None:
        """Evict without an announcement to the stages, for the version answers nothing, and load again."""
        self._metrics.reloads.inc()
        eviction = "failing version, loaded anew"
        self._execute(
            [
                Evict(key, predictor.address, eviction, immediate=True, replaced=True),
                Load(key, predictor.address, f"cannot run: {reason}"),
            ]
        )

    def _wait_s(self, replica: Replica) -> float:
        """Seconds until the next reload of the version there is allowed; 0 for now."""
        known = self._failing.get(replica)
        if known is None or not known.streak:
            return 0.0
        settings = self._settings
        pause_s = min(settings.reload_backoff_s * 2.0 ** (known.streak - 1), settings.reload_backoff_max_s)
        if known.tries >= settings.reload_tries:
            pause_s = settings.reload_pause_s
        return max(0.0, known.reloaded_s + pause_s - self._state.now_s)

    def _is_old(self, known: _Failing) -> bool:
        """Whether its last reload no longer delays the next one."""
        return self._state.now_s - known.reloaded_s > STREAK_S

    def _recovered(self, replica: Replica, known: _Failing) -> None:
        """Recent reloads still count, so that a version that dies repeatedly is not reloaded in a circle."""
        (name, _), _ = replica
        if known.reason:
            log.info("model runs again", extra=_facts(replica))
        known.reason, known.tries = "", 0
        if self._is_old(known):
            del self._failing[replica]
        self._changed({name})

    def _changed(self, models: set[str]) -> None:
        self._metrics.failing.set(sum(bool(known.reason) for known in self._failing.values()))
        self._publish(models)

    def _checked(self, replica: Replica, task: asyncio.Task[None]) -> None:
        del self._checks[replica]
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, TriptychError):
            log.error("internal error", exc_info=error, extra=_facts(replica))


async def _probe(key: VersionKey, predictor: Predictor, plan: Plan) -> str | None:
    """Triton's reason if a made-up row ends in a fault that is not the row's; else None."""
    values, plausible = await asyncio.to_thread(made_up_values, plan, 1)
    try:
        await predictor.infer(key, plan.model_inputs(values), PROBE_TIMEOUT_S)
    except (ContractViolation, NotLoaded):  # the row is refused, or the version is gone
        return None
    except Internal as error:
        meaning = inference_error("predictor", predictor.address, error.details)
        at_fault = plausible if meaning is None else isinstance(meaning, ModelFailing)
        return error.details if at_fault else None
    except TriptychError:  # the predictor is unavailable, full or too busy, whatever the version
        return None
    return None


def _facts(replica: Replica) -> dict[str, object]:
    (model, version), address = replica
    return {"model": model, "version": version, "predictor": address}
