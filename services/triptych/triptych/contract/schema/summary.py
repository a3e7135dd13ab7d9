"""Running summary of a job or batch: one value of an output over all rows that were answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Final, Literal

from triptych.contract.specs import TensorSpec

SummaryOp = Literal["mean", "max", "min", "sum", "count", "vote"]

MAX_ELEMENTS: Final = 64  # of a row: each has a value of its own


def summary_faults(summary: Mapping[str, SummaryOp], outputs: Sequence[TensorSpec]) -> Iterator[tuple[str, str]]:
    """Faults across the rest of the contract, by output."""
    specs = {spec.name: spec for spec in outputs}
    for name, op in summary.items():
        spec = specs.get(name)
        if spec is None:
            yield name, f"no output '{name}'; there are: {', '.join(sorted(specs))}"
        elif op == "vote":
            if spec.datatype.startswith("FP"):
                yield name, f"vote needs words, whole numbers or booleans, not {spec.datatype}"
        elif op != "count":
            if spec.datatype in ("BYTES", "BOOL"):
                yield name, f"{op} needs a numeric output, not {spec.datatype}"
            elif -1 in spec.shape[1:] or prod(spec.shape[1:]) > MAX_ELEMENTS:
                yield name, f"{op} needs at most {MAX_ELEMENTS} values a row, a fixed number, not {list(spec.shape)}"
