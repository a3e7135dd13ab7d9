"""The step from whole files to the bytes that a model of file types reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.steps.base import Environment, Facts, MapStep, Scope, Step
from triptych.datatypes import Array


class FileEnds(MapStep):
    """The `first` and `last` bytes of each file as numbers, INT32 [n,first+last].

    A file that is shorter is filled up with `padding`: behind the first bytes, before the last. With `strip`, white
    space is cut off before the first and behind the last bytes, within so many bytes of either end (Magika: 4096).
    """

    op: Literal["file_ends"]
    first: Annotated[int, Field(ge=0, le=1 << 20)]
    last: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    padding: Annotated[int, Field(ge=-1, le=65535)] = 256
    strip: Annotated[int, Field(ge=0, le=1 << 20)] = 0

    @model_validator(mode="after")
    def _takes_bytes(self) -> Self:
        if not self.first + self.last:
            raise ValueError("give first, last or both")
        if self.strip and self.strip < max(self.first, self.last):
            raise ValueError(f"strip: want at least {max(self.first, self.last)}, the bytes that are taken")
        return self

    def examples(self) -> dict[str, object]:
        return {self.input: b"%PDF-1.7\n"}

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=self.first + self.last)}

    def row_bytes(self) -> int:
        return 4 * (self.first + self.last)

    def made_bytes(self, env: Environment) -> int:
        return env.rows * self.row_bytes()

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        first, last, padding, strip = self.first, self.last, self.padding, self.strip

        def ends(files: Array) -> Array:
            out = np.full((len(files), first + last), padding, np.int32)
            for row, data in enumerate(files):
                head, tail = data[: strip or first], data[max(0, len(data) - (strip or last)) :]
                if strip:
                    head, tail = head.lstrip(), tail.rstrip()
                head, tail = head[:first], tail[max(0, len(tail) - last) :]
                out[row, : len(head)] = np.frombuffer(head, np.uint8)
                out[row, first + last - len(tail) :] = np.frombuffer(tail, np.uint8)
            return out

        return ends


STEPS: Final[tuple[type[Step], ...]] = (FileEnds,)
