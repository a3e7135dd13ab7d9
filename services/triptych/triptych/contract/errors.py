"""Faults of a contract, as lines that an editor can jump to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

Location = tuple[str | int, ...]


class Problem(NamedTuple):
    """One fault with its location in the document."""

    location: Location
    text: str


class ContractError(ValueError):
    """A contract that cannot be used. `lines` holds one `file:line: field: problem` for each fault."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def spell(location: Location) -> str:
    """`preprocess[2].op` for `("preprocess", 2, "op")`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
