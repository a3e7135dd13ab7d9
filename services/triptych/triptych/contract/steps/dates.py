"""The step from dates to the numbers that a model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.steps.base import Environment, Facts, MapStep, Scope, Step
from triptych.datatypes import TO_NUMPY, Array, Numeric
from triptych.errors import InvalidInput

Part = Literal["year", "quarter", "month", "week", "day", "weekday", "day_of_year", "hour", "minute", "second"]

_PARTS: Final[Mapping[str, Callable[[datetime], int]]] = {
    "year": lambda at: at.year,
    "quarter": lambda at: (at.month + 2) // 3,
    "month": lambda at: at.month,
    "week": lambda at: at.isocalendar().week,
    "day": lambda at: at.day,
    "weekday": lambda at: at.weekday(),
    "day_of_year": lambda at: at.timetuple().tm_yday,
    "hour": lambda at: at.hour,
    "minute": lambda at: at.minute,
    "second": lambda at: at.second,
}
_MOST: Final[Mapping[str, int]] = {"year": 9999, "day_of_year": 366, "minute": 59, "second": 59, "week": 53}
_UNITS: Final[Mapping[str, int]] = {"epoch_s": 1, "epoch_ms": 1000}


class DateParts(MapStep):
    """Dates to columns, one for each of `parts`; adds a last dimension.

    `iso` is text of ISO 8601 such as 2026-11-29 or 2026-11-29T18:30:00+01:00, whose parts are taken as written.
    `epoch_s` and `epoch_ms` are whole numbers since 1970, in UTC. `weekday` is 0 for Monday, `week` that of ISO 8601,
    all as in pandas.
    """

    op: Literal["date_parts"]
    parts: Annotated[tuple[Part, ...], Field(strict=False, min_length=1)]
    format: Literal["iso", "epoch_s", "epoch_ms"] = "iso"
    datatype: Numeric = "FP32"

    @model_validator(mode="after")
    def _parts_differ(self) -> Self:
        if len(set(self.parts)) != len(self.parts):
            raise ValueError("parts: each may be there once")
        for part in self.parts:
            most = _MOST.get(part, 31)
            if int(np.array([most]).astype(TO_NUMPY[self.datatype])[0]) != most:
                raise ValueError(f"datatype: {self.datatype} does not hold the {part} up to {most}")
        return self

    def examples(self) -> dict[str, object]:
        return {self.input: b"2026-11-29T18:30:00" if self.format == "iso" else 1_795_977_000 * _UNITS[self.format]}

    def infer(self, facts: Mapping[str, Facts]) -> dict[str, Facts]:
        return {self.result: Facts(width=len(self.parts))}

    def made_bytes(self, env: Environment) -> int:
        return self.elements(env) * 8 * len(self.parts)

    def function(self, scope: Scope) -> Callable[[Array], Array]:
        parts, dtype, name = [_PARTS[part] for part in self.parts], TO_NUMPY[self.datatype], self.input
        parse, want = _parser(self.format), "a date as 2026-11-29 or 2026-11-29T18:30:00"
        if self.format != "iso":
            want = f"a date within the years 1 to 9999, in {self.format}"

        def columns(values: Array) -> Array:
            out = np.empty((values.size, len(parts)), np.int64)
            for at, value in enumerate(values.ravel().tolist()):
                try:
                    moment = parse(value)
                except (ValueError, OverflowError, OSError):
                    row = at // max(1, values.size // len(values))
                    shown = value.decode(errors="replace") if isinstance(value, bytes) else value
                    raise InvalidInput(name, want, f"row {row}: {shown!r:.80}") from None
                out[at] = [part(moment) for part in parts]
            return out.reshape(*values.shape, len(parts)).astype(dtype)

        return columns


def _parser(form: str) -> Callable[[bytes | int], datetime]:
    if form == "iso":
        return lambda text: datetime.fromisoformat(bytes(text).decode())
    unit = _UNITS[form]
    return lambda number: datetime.fromtimestamp(int(number) // unit, UTC)


STEPS: Final[tuple[type[Step], ...]] = (DateParts,)
