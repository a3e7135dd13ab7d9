"""Memory of the plans that a stage keeps, by the parts that they share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from weakref import WeakKeyDictionary

from triptych.contract import Contract, Plan, StepFile

# A plan takes 14 to 16 bytes for each byte of its contract, one of 100,000 labels 13 (tracemalloc, 2026-12-01).
CONTRACT_FACTOR: Final = 16
READ_S: Final = 20.0  # of CPU, to read one file; the trial of the controller allows 10

Parts = Mapping[str, int]  # bytes by name; parts of one name are shared


def parts_of(
    name: str, contract: Contract, json_bytes: int, files: Mapping[str, StepFile], stages: Collection[str], most: int
) -> Parts:
    """The parts of a plan before it is made. `name` is that of its version.

    Raises `ContractViolation` for a file that takes more than `most` bytes to read.
    """
    parts = {name: CONTRACT_FACTOR * json_bytes}
    parts |= {file.digest: len(file.content) for file in files.values()}
    scope = contract.scope_with(files)
    for stage in stages:
        for at, step in enumerate(getattr(contract, stage)):
            own, shared = step.kept_bytes(scope, most, READ_S)
            parts |= shared
            if own:
                parts[f"{name} {stage}[{at}]"] = own
    return parts


class PlanMemory:
    """Bytes of the plans of a stage: those that are kept, and those that left while requests use them."""

    def __init__(self) -> None:
        self._kept = dict[Plan, Parts]()
        self._leaving = WeakKeyDictionary[Plan, Parts]()
        self._users = dict[str, int]()  # kept plans of each part
        self._kept_bytes = 0

    def add(self, plan: Plan, parts: Parts) -> None:
        """Count a plan that is kept."""
        self._kept[plan] = parts
        for part, size_bytes in parts.items():
            self._kept_bytes += 0 if part in self._users else size_bytes
            self._users[part] = self._users.get(part, 0) + 1

    def remove(self, plan: Plan) -> None:
        """Count a plan from now on only as long as a request uses it."""
        parts = self._kept.pop(plan)
        for part, size_bytes in parts.items():
            self._users[part] -= 1
            if not self._users[part]:
                del self._users[part]
                self._kept_bytes -= size_bytes
        self._leaving[plan] = parts

    def bytes_with(self, parts: Parts) -> int:
        """Bytes of all plans, with one of these parts."""
        others = {part: size for each in self._leaving.values() for part, size in each.items()} | dict(parts)
        return self._kept_bytes + sum(size for part, size in others.items() if part not in self._users)
