"""Observation of outputs: values of one output are counted, so that two versions can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Final, Self

import numpy as np
from pydantic import Field, model_validator

from triptych.contract.specs import Name, Number, StrictModel, TensorSpec
from triptych.datatypes import Array

MAX_VALUES: Final = 64  # each is a label value in Prometheus for each version
OTHER: Final = "other"

CountRows = Callable[[Mapping[str, Array]], Mapping[str, int]]


class Observe(StrictModel):
    """Counts the first element of each row of one output: words of a label table, or numbers by bucket."""

    output: Name
    labels: Annotated[
        Name | None, Field(description="a table of labels: its words are counted, numbers as places in it")
    ] = None
    buckets: Annotated[
        tuple[Number, ...] | None,
        Field(strict=False, min_length=1, max_length=MAX_VALUES, description="upper limits, each included; rising"),
    ] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.labels is None) == (self.buckets is None):
            raise ValueError("want either labels or buckets")
        if self.buckets and any(low >= high for low, high in pairwise(self.buckets)):
            raise ValueError("buckets: limits must rise")
        return self

    def faults(self, outputs: Sequence[TensorSpec], labels: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
        """Faults across the rest of the contract, by field."""
        spec = next((spec for spec in outputs if spec.name == self.output), None)
        if spec is None:
            yield "output", f"no output '{self.output}'; there are: {', '.join(sorted(s.name for s in outputs))}"
        elif self.buckets is not None and spec.datatype in ("BYTES", "BOOL"):
            yield "buckets", f"limits need a numeric output, not {spec.datatype}"
        elif self.labels is not None and not (spec.datatype == "BYTES" or "INT" in spec.datatype):
            yield "labels", f"words need an output of BYTES or whole numbers, not {spec.datatype}"
        if self.labels is not None:
            table = labels.get(self.labels)
            if table is None:
                yield "labels", f"no label table '{self.labels}'; known: {', '.join(sorted(labels)) or 'none'}"
            elif len(set(table)) > MAX_VALUES:
                yield "labels", f"want at most {MAX_VALUES} words to count, table '{self.labels}' has {len(set(table))}"

    def compile(self, labels: Mapping[str, Sequence[str]]) -> CountRows:
        """Function from the outputs of a request to rows by value. A word outside of the table is `other`."""
        value = self._words(labels[self.labels]) if self.labels is not None else self._limits()

        def count(outputs: Mapping[str, Array]) -> Mapping[str, int]:
            array = outputs[self.output]
            firsts = array.reshape(len(array), -1)[:, :1].ravel()
            return Counter(map(value, firsts.tolist()))

        return count

    @staticmethod
    def _words(table: Sequence[str]) -> Callable[[object], str]:
        known: dict[object, str] = dict(enumerate(table))
        known.update((word.encode(), word) for word in table)
        return lambda element: known.get(element, OTHER)

    def _limits(self) -> Callable[[float], str]:
        limits = np.array(self.buckets, np.float64)
        names = [*(f"{limit:g}" for limit in limits), "+Inf"]
        return lambda number: names[int(np.searchsorted(limits, number))]


def observe_nothing(_outputs: Mapping[str, Array]) -> Mapping[str, int]:
    """Counting function of a contract that observes nothing."""
    return {}
