"""All Tritons together: who answers, who belongs where, and who has what."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache

from controller.placement.policy.popularity import Key
from controller.placement.predictor import Pod
from controller.placement.triton_client import Predictor


class Fleet:
    """Pods by address. `on_change` is told the models whose placement changed."""

    def __init__(
        self,
        connect: Callable[[str], Predictor],
        slots: int,
        on_change: Callable[[set[str]], None],
        clock: Callable[[], float],
        *,
        warms_up: bool = False,
    ) -> None:
        self._connect, self._slots, self._on_change, self._clock = connect, slots, on_change, clock
        self._warms_up = warms_up
        self._pods: dict[str, Pod] = {}
        self._shown: dict[str, frozenset[Key]] = {}  # what was told of each pod last
        self._holders: dict[Key, list[Pod]] = {}  # the same by version
        self._closing: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Pod]:
        return iter(list(self._pods.values()))

    def set_addresses(self, addresses: Collection[str]) -> tuple[list[Pod], list[Pod]]:
        """The Tritons that there are from now on; returns those that came and those that went."""
        gone = [self._pods.pop(address) for address in self._pods.keys() - set(addresses)]
        came = []
        for address in addresses:
            if address not in self._pods:
                pod = Pod(self._connect(address), self._slots, self._pod_changed, self._clock, warms_up=self._warms_up)
                self._pods[address] = pod
                came.append(pod)
        for pod in gone:
            self._on_change({name for name, _ in self._show(pod, frozenset())})
            del self._shown[pod.address]
            task = asyncio.create_task(pod.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return came, gone

    def answering(self) -> list[Pod]:
        return [pod for pod in self._pods.values() if pod.answers]

    def ranked(self, model: str) -> list[Pod]:
        """The Tritons that answer, in the order of their claim on the model."""
        answering = tuple(sorted(pod.address for pod in self._pods.values() if pod.answers))
        return [self._pods[address] for address in rendezvous(model, answering)]

    def has(self, pod: Pod) -> bool:
        return self._pods.get(pod.address) is pod

    def holders(self, key: Key) -> list[Pod]:
        """Those that have the version ready."""
        return list(self._holders.get(key, ()))

    def placement(self, model: str) -> dict[int, tuple[str, ...]]:
        """Addresses by version that is ready."""
        placement: dict[int, tuple[str, ...]] = {}
        for pod in self._pods.values():
            for version in pod.ready_versions(model):
                placement[version] = (*placement.get(version, ()), pod.address)
        return placement

    def failures(self, model: str, versions: Collection[int]) -> dict[int, str]:
        """Why versions could not be loaded lately."""
        failed: dict[int, str] = {}
        for pod in self._pods.values():
            for version in versions:
                if reason := pod.failure((model, version)):
                    failed.setdefault(version, reason)
        return failed

    def forget_failures(self, model: str) -> None:
        """The model's versions may be tried again at once."""
        if [pod for pod in self._pods.values() if pod.forget_failures(model)]:
            self._on_change({model})

    def forget_old_failures(self) -> None:
        """Versions whose failure is long enough ago may be tried again."""
        if models := {name for pod in self._pods.values() for name in pod.forget_old_failures()}:
            self._on_change(models)

    async def refresh(self) -> None:
        await asyncio.gather(*(pod.refresh() for pod in self))

    async def close(self) -> None:
        await asyncio.gather(*(pod.close() for pod in self), *self._closing)

    def _pod_changed(self, pod: Pod) -> None:
        if not self.has(pod):
            return
        self._on_change({name for name, _ in self._show(pod, pod.ready)})

    def _show(self, pod: Pod, ready: frozenset[Key]) -> frozenset[Key]:
        """Notes what a Triton has ready, and returns what came and went."""
        before = self._shown.get(pod.address, frozenset())
        self._shown[pod.address] = ready
        for key in before - ready:
            self._holders[key].remove(pod)
            if not self._holders[key]:
                del self._holders[key]
        for key in ready - before:
            self._holders.setdefault(key, []).append(pod)
        return before ^ ready


@lru_cache(maxsize=8192)
def rendezvous(model: str, addresses: Sequence[str]) -> tuple[str, ...]:
    """Addresses by their weight for the model: when one comes or goes, only its own models move."""
    return tuple(sorted(addresses, key=lambda address: hashlib.blake2b(f"{address} {model}".encode()).digest()))
