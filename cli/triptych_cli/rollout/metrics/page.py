"""Parser of a metrics page. A line that cannot be parsed, or is no count, is left out; the others stay. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from triptych_cli.rollout.metrics.counts import ANSWERS, REQUESTS, SECONDS, Sample

REQUIRED_LABELS = {REQUESTS: ("version", "code"), SECONDS: ("version", "le"), ANSWERS: ("version", "value")}
MAX_SHOWN = 80  # characters of a line

Counter = tuple[str, Mapping[str, str], float]  # name, labels, value


@dataclass
class MetricsPage:
    """Counters of one page, and the lines that were left out."""

    counters: list[Counter] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def fault(self, origin: str) -> tuple[str, ...]:
        """A sentence about the lines that were left out, if any."""
        if not self.bad:
            return ()
        return (f"{origin}: {len(self.bad)} lines left out, the first is {self.bad[0][:MAX_SHOWN]!r}",)


def parse_page(lines: Collection[str]) -> MetricsPage:
    """Parse all lines at once, and line by line only if that fails."""
    page = MetricsPage()
    try:
        page.counters += _counters("\n".join(lines))
    except Exception:  # the parser has no exception class of its own
        for line in lines:
            try:
                page.counters += _counters(line)
            except Exception:
                page.bad.append(line)
    page.bad += [f"{name} {value}" for name, _, value in page.counters if not _is_count(value)]
    page.counters = [counter for counter in page.counters if _is_count(counter[2])]
    return page


def _counters(text: str) -> list[Counter]:
    families = text_string_to_metric_families(text)
    return [(name, labels, value) for family in families for name, labels, value, *_ in family.samples]


def _is_count(value: float) -> bool:
    return math.isfinite(value) and value >= 0


def with_required_labels(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples that have every label of their series."""
    for sample in samples:
        labels = dict(sample.labels)
        if all(labels.get(name) for name in REQUIRED_LABELS.get(sample.name, ("",))) and _is_bucket_limit(
            labels.get("le", "0")
        ):
            yield sample


def _is_bucket_limit(text: str) -> bool:
    try:
        return not math.isnan(float(text))
    except ValueError:
        return False
