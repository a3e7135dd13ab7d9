"""Samples of a metrics page."""

from __future__ import annotations

from collections import Counter
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families


def samples_by_label(url: str, name: str, label: str) -> Counter[str]:
    """Sum of the samples of a series, by the value of one label."""
    with urlopen(url, timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    found = Counter[str]()
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                found[sample.labels[label]] += int(sample.value)
    return found
