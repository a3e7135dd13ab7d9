"""All predictors: the available ones, the order in which a model prefers them, and the holders of each version."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache

from controller.placement.policy.popularity import VersionKey
from controller.placement.predictors.predictor import Predictor
from controller.placement.predictors.triton_client import TritonApi


class Fleet:
    """Predictors by address. Calls `on_change` with the versions that became ready somewhere, or no longer are."""

    def __init__(
        self,
        connect: Callable[[str], TritonApi],
        slots: int,
        on_change: Callable[[set[VersionKey]], None],
        clock: Callable[[], float],
        *,
        warms_up: bool = False,
    ) -> None:
        self._connect, self._slots, self._on_change, self._clock = connect, slots, on_change, clock
        self._warms_up = warms_up
        self._predictors: dict[str, Predictor] = {}
        self._indexed: dict[str, frozenset[VersionKey]] = {}  # ready versions of each predictor as in the two below
        self._holders: dict[VersionKey, list[Predictor]] = {}
        self._versions: dict[str, set[int]] = {}  # versions with a holder, by model
        self._available: tuple[str, ...] = ()  # sorted
        self._available_set: frozenset[str] = frozenset()
        self._closing: set[asyncio.Task[None]] = set()
        self.on_this_machine = 0  # predictors that share its memory

    def __iter__(self) -> Iterator[Predictor]:
        return iter(list(self._predictors.values()))

    def __len__(self) -> int:
        return len(self._predictors)

    def get(self, address: str) -> Predictor | None:
        return self._predictors.get(address)

    def set_addresses(self, addresses: Collection[str]) -> tuple[list[Predictor], list[Predictor]]:
        """Follow the addresses; return the new predictors and those that are gone."""
        new = [self._new_predictor(address) for address in addresses if address not in self._predictors]
        gone = [self._predictors.pop(address) for address in self._predictors.keys() - set(addresses)]
        self._predictors.update({predictor.address: predictor for predictor in new})
        for predictor in gone:
            self._on_change(self._update_index(predictor, frozenset()))
            del self._indexed[predictor.address]
            task = asyncio.create_task(predictor.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        if new or gone:
            self.on_this_machine = sum(each.on_this_machine for each in self._predictors.values())
            self._update_available()
        return new, gone

    def available(self) -> list[Predictor]:
        return [self._predictors[address] for address in self._available]

    def ranked(self, model: str) -> list[Predictor]:
        """The available predictors, the one that the model prefers first."""
        return [self._predictors[address] for address in rendezvous(model, self._available)]

    def has(self, predictor: Predictor) -> bool:
        return self._predictors.get(predictor.address) is predictor

    def holders(self, key: VersionKey) -> list[Predictor]:
        """Predictors that have the version ready."""
        return list(self._holders.get(key, ()))

    def ready_addresses(self, model: str) -> dict[int, tuple[str, ...]]:
        """Addresses by version that is ready somewhere."""
        versions = self._versions.get(model, ())
        return {version: tuple(each.address for each in self._holders[model, version]) for version in sorted(versions)}

    def failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Reasons of recently failed loads, by version."""
        failed: dict[int, str] = {}
        for predictor in self._predictors.values():
            if predictor.has_failures:
                for version in versions:
                    if reason := predictor.failure((model, version)):
                        failed.setdefault(version, reason)
        return failed

    def forget_failures(self, model: str) -> bool:
        """Allow a new try of the model's versions at once. Whether there was a failure."""
        return bool([each for each in self._predictors.values() if each.has_failures and each.forget_failures(model)])

    def expire_failures(self) -> set[str]:
        """Drop failures that no longer count; return their models."""
        return {name for predictor in self._predictors.values() for name in predictor.expire_failures()}

    async def refresh(self) -> None:
        await asyncio.gather(*(predictor.refresh() for predictor in self))

    async def close(self) -> None:
        await asyncio.gather(*(predictor.close() for predictor in self), *self._closing)

    def _new_predictor(self, address: str) -> Predictor:
        triton = self._connect(address)
        return Predictor(triton, self._slots, self._predictor_changed, self._clock, warms_up=self._warms_up)

    def _predictor_changed(self, predictor: Predictor) -> None:
        if self.has(predictor):
            if predictor.available != (predictor.address in self._available_set):
                self._update_available()
            self._on_change(self._update_index(predictor, predictor.ready))

    def _update_available(self) -> None:
        self._available = tuple(sorted(each.address for each in self._predictors.values() if each.available))
        self._available_set = frozenset(self._available)

    def _update_index(self, predictor: Predictor, ready: frozenset[VersionKey]) -> set[VersionKey]:
        """Index the ready versions of a predictor, and return the difference to before."""
        before = self._indexed.get(predictor.address, frozenset())
        self._indexed[predictor.address] = ready
        for key in before - ready:
            self._holders[key].remove(predictor)
            if not self._holders[key]:
                del self._holders[key]
                self._versions[key[0]].discard(key[1])
                if not self._versions[key[0]]:
                    del self._versions[key[0]]
        for key in ready - before:
            self._holders.setdefault(key, []).append(predictor)
            self._versions.setdefault(key[0], set()).add(key[1])
        return set(before ^ ready)


@lru_cache(maxsize=2048)
def rendezvous(model: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """Addresses by their weight for the model: when one comes or goes, only its own models move."""
    return tuple(sorted(addresses, key=lambda address: hashlib.blake2b(f"{address} {model}".encode()).digest()))
