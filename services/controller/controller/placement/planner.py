"""The plan: the loads and evictions that bring the observed state to the desired one. Pure.

Planning reads the state and changes nothing. A plan counts the effect of its own actions, so that two of them do not
take the same capacity or evict the last replica.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from controller.placement.policy.eviction import Candidate, Capacity, choose_victims
from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.refusals import full, hung
from controller.placement.state import State
from triptych.errors import LoadFailed, Overloaded, TriptychError, Unavailable

MAX_CRASHES = 2  # predictors that became unavailable during a load of the version, after which it is refused
REBALANCE_BELOW = 0.5  # of the mean load of the others: a predictor with less takes over the models that prefer it
REBALANCED_KEYS = 20  # versions looked at for that in one turn


@dataclass(frozen=True)
class Load:
    """Load the version on the predictor with that address."""

    key: VersionKey
    address: str
    reason: str


@dataclass(frozen=True)
class Evict:
    """Unload the version there.

    `immediate`: for a version that cannot run. The stages need not hear of it first, nobody can cancel it, and it ends
    when Triton has begun. `replaced`: a load of the same version follows, so its desired replicas stay.
    """

    key: VersionKey
    address: str
    reason: str
    immediate: bool = False
    replaced: bool = False


@dataclass(frozen=True)
class Refuse:
    """Refuse the load of a request. `is_overload`: for want of capacity. `remember`: a reason that outlives it."""

    error: TriptychError
    is_overload: bool = False
    remember: str = ""


Action = Load | Evict


@dataclass
class Due:
    """The work of the next turn: versions that may lack a replica, and predictors with new observations."""

    keys: set[VersionKey] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)


def plan(state: State, due: Due, underloaded: Sequence[tuple[Predictor, Collection[VersionKey]]] = ()) -> list[Action]:
    """Actions for everything that is due.

    `underloaded` are predictors with few models, and versions that may move there.
    """
    planned = _Plan(state)
    for address in sorted(due.addresses):
        if predictor := state.fleet.get(address):
            planned.evict_unneeded(predictor)
            planned.keep_headroom(predictor)
    for key in sorted(due.keys, key=lambda key: (not state.desired.minimum(key), key)):
        planned.add_replicas(key)
    for predictor, keys in underloaded:
        planned.rebalance(predictor, keys)
    return planned.actions


def plan_request(state: State, key: VersionKey, max_wait_s: float, remaining_s: float) -> Load | Refuse:
    """The predictor for a requested load: the first with capacity in the model's order, else the soonest to have it.

    `max_wait_s` is the longest wait for capacity, `remaining_s` the rest of the caller's deadline.
    """
    eligible = _eligible(state, key)
    if isinstance(eligible, Refuse):
        return eligible
    needed = Capacity(1, state.versions.size_of(key).bytes)
    fitting = (each for each in eligible if needed.excess_over(state.budget(each)).is_zero)
    chosen = next((each for each in fitting if state.deficit(each, key).is_zero), None)  # most often one of the first
    if chosen is None:
        all_fitting = [each for each in eligible if needed.excess_over(state.budget(each)).is_zero]
        if not all_fitting:
            return _too_large(state, key, eligible)
        wait_s, chosen = _soonest(state, key, all_fitting)
        if wait_s > max_wait_s:
            return Refuse(full(chosen, wait_s), is_overload=True)
    if (queue_s := state.queue_s(chosen)) > remaining_s:
        text = f"{state.in_progress.loads_on[chosen.address]} loads are waiting at predictor {chosen.address}"
        again = f"{text}; try again in {math.ceil(queue_s)} s"
        return Refuse(Overloaded(again, retry_after_s=queue_s), is_overload=True)
    if state.loads_full:
        text = f"{len(state.in_progress.loads)} models, the limit, wait to be loaded; try later"
        return Refuse(Overloaded(text, retry_after_s=state.in_progress.load_s.value))
    return Load(key, chosen.address, "request")


def plan_capacity(state: State, key: VersionKey, predictor: Predictor) -> Sequence[Evict] | float:
    """Evictions for a load that lacks capacity; none when unloads in progress free it.

    If they are not possible yet: the seconds until they are, infinite for never.
    """
    deficit = state.deficit(predictor, key) - state.being_freed(predictor)
    victims = choose_victims(deficit, state.candidates(predictor))
    reason = f"capacity for {key[0]} version {key[1]}"
    return victims if isinstance(victims, float) else _evict(victims, predictor, reason)


def plan_shared_memory(state: State, key: VersionKey, predictor: Predictor) -> Sequence[Evict] | float:
    """The eviction of one version for a load that lacks shared memory, of which nobody knows the share of each."""
    victims = choose_victims(Capacity(1), state.candidates(predictor))
    reason = f"capacity in shared memory for {key[0]}"
    return victims if isinstance(victims, float) else _evict(victims, predictor, reason)


def capacity_wait_s(state: State, key: VersionKey, predictor: Predictor) -> float:
    """Seconds until there may be capacity for the version; 0 when there is, or an eviction frees it."""
    deficit = state.deficit(predictor, key)
    if deficit.is_zero:
        return 0.0
    victims = choose_victims(deficit, state.candidates(predictor))
    return victims if isinstance(victims, float) else 0.0


class _Plan:
    """Actions so far, and their effect on each predictor."""

    def __init__(self, state: State) -> None:
        self.actions: list[Action] = []
        self._state = state
        self._evicted: Counter[VersionKey] = Counter()
        self._freed: dict[str, Capacity] = {}
        self._victims: set[tuple[VersionKey, str]] = set()
        self._loads: dict[VersionKey, set[str]] = {}
        self._loads_on: Counter[str] = Counter()
        self._reserved: dict[str, Capacity] = {}
        self._full: dict[str, bool] = {}  # by address, as far as it was asked for
        self._evictable: dict[str, Sequence[Candidate]] = {}

    def evict_unneeded(self, predictor: Predictor) -> None:
        """Evict versions that are idle, surplus or no longer in the catalog."""
        for key in sorted(predictor.ready):
            replicas = self._state.replicas(key) - self._evicted[key]
            if reason := self._state.eviction_reason(key, predictor, replicas=replicas):
                self._evict(key, predictor, reason)

    def keep_headroom(self, predictor: Predictor) -> None:
        """Evict the coldest ahead of need: then a load need not wait for Triton, which takes a second to unload."""
        state, address = self._state, predictor.address
        excess = (state.taken(predictor) + state.headroom(predictor)).excess_over(state.budget(predictor))
        deficit = excess - state.being_freed(predictor) - self._freed.get(address, Capacity())
        if deficit.is_zero:
            return
        victims = choose_victims(deficit, self._candidates(predictor))
        kept = sum((key, address) not in self._victims for key in predictor.ready)
        if not isinstance(victims, float) and len(victims) < kept:  # an empty predictor serves nobody
            for key in victims:
                self._evict(key, predictor, "headroom for the next load")

    def add_replicas(self, key: VersionKey) -> None:
        """Load a version until it has its target, as far as there is capacity and few at once.

        Only a version with a minimum may evict others.
        """
        state = self._state
        existing = {each.address for each in state.fleet.holders(key)} | state.in_progress.loading(key).keys()
        missing = state.desired.target(key) - len(existing | self._loads.get(key, set()))
        if missing <= 0 or not self._may_load_unasked(key):
            return
        is_required, is_gated = state.desired.is_required(key), state.desired.is_gated(key)
        if not (is_required or is_gated or state.is_in_use(key)):
            return
        reason = "stays loaded" if is_required else "new version" if is_gated else "in use"
        for predictor in state.fleet.ranked(key[0]):
            if (
                missing
                and predictor.address not in existing
                and self._may_load(key, predictor, evicts=is_required or is_gated)
            ):
                self._load(key, predictor, reason)
                missing -= 1

    def rebalance(self, predictor: Predictor, keys: Iterable[VersionKey]) -> None:
        """Load versions that prefer this predictor; their replica elsewhere is one too many then."""
        for key in keys:
            if not self._may_load_unasked(key):
                continue
            exists = key in predictor.ready or predictor.address in self._state.in_progress.loading(key)
            prefers = not exists and self._state.fleet.ranked(key[0])[0] is predictor
            if prefers and self._state.is_in_use(key) and self._may_load(key, predictor, evicts=False):
                self._load(key, predictor, "rebalanced")

    def _may_load_unasked(self, key: VersionKey) -> bool:
        """Whether its files are there, and no predictor became unavailable lately while it loaded them."""
        state = self._state
        return state.versions.is_loadable(key) and not state.history.recent_crashes(key, state.now_s)

    def _candidates(self, predictor: Predictor) -> list[Candidate]:
        """Candidates of an eviction without those that the plan evicts, there or so often that the rest has to stay."""
        candidates = self._state.candidates(predictor)
        if not self._evicted:
            return candidates
        return [
            each
            for each in candidates
            if (each.key, predictor.address) not in self._victims and self._may_evict_another(each.key)
        ]

    def _may_evict_another(self, key: VersionKey) -> bool:
        evicted = self._evicted[key]
        return not evicted or self._state.replicas(key) - evicted > self._state.desired.minimum(key)

    def _may_load(self, key: VersionKey, predictor: Predictor, *, evicts: bool) -> bool:
        state, address = self._state, predictor.address
        loads, planned = state.in_progress, self._loads_on.total()
        if predictor.failure(key) or len(loads.loads) + planned >= state.settings.max_waiting_loads:
            return False
        if loads.loads_on[address] + self._loads_on[address] >= state.settings.max_concurrent_loads:
            return False
        is_counted = predictor.takes_capacity(key)
        if self._is_full(predictor) and not is_counted and not (evicts and self._evictable_on(predictor)):
            return False
        taken = self._taken(predictor)
        if not is_counted:
            taken += Capacity(1, state.versions.size_of(key).bytes)
        deficit = taken.excess_over(state.budget(predictor))
        if deficit.is_zero or not evicts:
            return deficit.is_zero
        return not isinstance(choose_victims(deficit, self._evictable_on(predictor)), float)

    def _taken(self, predictor: Predictor) -> Capacity:
        return self._state.taken(predictor) + self._reserved.get(predictor.address, Capacity())

    def _is_full(self, predictor: Predictor) -> bool:
        """Whether there is no capacity for any version. Computed once: a plan asks for each of its versions."""
        address = predictor.address
        if (is_full := self._full.get(address)) is None:
            least = self._taken(predictor) + Capacity(1)
            is_full = self._full[address] = not least.excess_over(self._state.budget(predictor)).is_zero
        return is_full

    def _evictable_on(self, predictor: Predictor) -> Sequence[Candidate]:
        """Candidates that may be evicted now. Computed once: 50 take 0.3 ms."""
        address = predictor.address
        if (found := self._evictable.get(address)) is None:
            found = [each for each in self._candidates(predictor) if each.evictable_in_s <= 0]
            self._evictable[address] = found
        return found

    def _load(self, key: VersionKey, predictor: Predictor, reason: str) -> None:
        address = predictor.address
        self.actions.append(Load(key, address, reason))
        self._loads.setdefault(key, set()).add(address)
        self._loads_on[address] += 1
        self._full.pop(address, None)
        size = Capacity(1, self._state.versions.size_of(key).bytes)
        self._reserved[address] = self._reserved.get(address, Capacity()) + size

    def _evict(self, key: VersionKey, predictor: Predictor, reason: str) -> None:
        address = predictor.address
        self.actions.append(Evict(key, address, reason))
        self._evicted[key] += 1
        self._victims.add((key, address))
        self._evictable.clear()
        size = Capacity(1, self._state.versions.size_of(key).bytes)
        self._freed[address] = self._freed.get(address, Capacity()) + size


def _eligible(state: State, key: VersionKey) -> Sequence[Predictor] | Refuse:
    """The available predictors without a failure of the version, in the model's order."""
    ranked = state.fleet.ranked(key[0])
    if not ranked:
        reason = next((each.unavailable_reason for each in state.fleet), "no predictor is known yet")
        return Refuse(Unavailable(reason))
    if failures := {each.address: each.failure(key) for each in ranked if each.has_failures}:
        ranked = [each for each in ranked if not hung(failures.get(each.address, ""))] or ranked
        if reason := next((reason for each in ranked if (reason := failures.get(each.address, ""))), ""):
            return Refuse(LoadFailed(key[0], reason))
    if (crashes := state.history.recent_crashes(key, state.now_s)) >= MAX_CRASHES:
        text = f"{crashes} predictors became unavailable while they loaded it; it is not loaded for a while"
        return Refuse(LoadFailed(key[0], text))
    if not state.versions.is_loadable(key):
        return Refuse(LoadFailed(key[0], state.versions.not_loadable_reason(key)))
    return ranked


def _too_large(state: State, key: VersionKey, eligible: Sequence[Predictor]) -> Refuse:
    """The refusal of a version that exceeds the budget of every predictor."""
    size, most = state.versions.size_of(key), max(state.budget(each).bytes for each in eligible)
    reason = f"it takes {size.bytes} bytes ({size.source}), and no predictor has a budget of more than {most}"
    return Refuse(LoadFailed(key[0], reason), remember=reason)


def _soonest(state: State, key: VersionKey, fitting: Sequence[Predictor]) -> tuple[float, Predictor]:
    """The predictor that has capacity soonest, and when; of equal ones the first."""
    waits = []
    for predictor in fitting:
        waits.append((capacity_wait_s(state, key, predictor), predictor))
        if not waits[-1][0]:
            break
    return min(waits, key=lambda each: each[0])


def _evict(victims: Iterable[VersionKey], predictor: Predictor, reason: str) -> list[Evict]:
    return [Evict(key, predictor.address, reason) for key in victims]
