"""Generated tables of docs/reference: settings, errors, metrics and contract steps, out of the classes.

python -m tools.reference            writes the tables between the markers of each page
python -m tools.reference --check    prints each page that is old; exit status 1 if there is one
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from inspect import getdoc
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from controller.metrics import ControllerMetrics
from controller.settings import Settings as ControllerSettings
from jobs.metrics import JobsMetrics
from jobs.settings import Settings as JobsSettings
from postprocess.settings import Settings as PostprocessSettings
from preprocess.settings import Settings as PreprocessSettings
from triptych.contract.schema.json_schema import steps_table
from triptych.errors import TriptychError
from triptych.protocol.status import CODES
from triptych.runtime.settings import StageSettings
from triptych.telemetry.metrics.stage_metrics import StageMetrics
from triptych.telemetry.tracing import tracing

DOCS: Final = Path(__file__).parents[1] / "docs"


def stage_settings() -> str:
    """The settings that all stages have."""
    return _table(("setting", "default", "meaning"), (_setting("", StageSettings, name) for name in _shared()))


def own_settings(cls: type[StageSettings]) -> str:
    """The settings of one service, and those whose default differs from that of the other stages."""
    names = [name for name in cls.model_fields if name not in _shared() or not _is_same(cls, name)]
    return _table(("setting", "default", "meaning"), (_setting(cls.prefix(), cls, name) for name in names))


def error_codes() -> str:
    """The table from errors to gRPC status."""
    rows = ((f"`{error.__name__}`", f"`{code.name}`", _first_line(error)) for error, code in CODES.items())
    return _table(("error", "gRPC status", "meaning"), rows)


def stage_metrics() -> str:
    """The series of each stage."""
    metrics = StageMetrics("stage", tracing("stage", ""))
    return _metrics(metrics.registry)


def controller_metrics() -> str:
    """The series that the controller has beside those of each stage."""
    registry = CollectorRegistry()
    ControllerMetrics(registry)
    return _metrics(registry)


def jobs_metrics() -> str:
    """The series that jobs have beside those of each stage."""
    registry = CollectorRegistry()
    JobsMetrics(registry)
    return _metrics(registry)


TABLES: Final[dict[tuple[str, str], Callable[[], str]]] = {
    ("reference/settings.md", "all stages"): stage_settings,
    ("reference/settings.md", "preprocess"): lambda: own_settings(PreprocessSettings),
    ("reference/settings.md", "postprocess"): lambda: own_settings(PostprocessSettings),
    ("reference/settings.md", "controller"): lambda: own_settings(ControllerSettings),
    ("reference/settings.md", "jobs"): lambda: own_settings(JobsSettings),
    ("reference/errors.md", "errors"): error_codes,
    ("reference/metrics.md", "all stages"): stage_metrics,
    ("reference/metrics.md", "controller"): controller_metrics,
    ("reference/metrics.md", "jobs"): jobs_metrics,
    ("reference/contract-steps.md", "steps"): lambda: steps_table(built_in=True),
}


def generated(text: str, page: str) -> str:
    """The text of a page with each of its tables made anew. Raises `ValueError` without a table's markers."""
    for (of, name), table in TABLES.items():
        if of != page:
            continue
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            raise ValueError(f"{page}: want one {begin} and one {end}")
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{table().strip()}\n\n{end}{rest.split(end)[1]}"
    return text


def _shared() -> list[str]:
    return list(StageSettings.model_fields)


def _is_same(cls: type[StageSettings], name: str) -> bool:
    own, shared = cls.model_fields[name], StageSettings.model_fields[name]
    return (own.default, own.description) == (shared.default, shared.description)


def _setting(prefix: str, cls: type[StageSettings], name: str) -> tuple[str, str, str]:
    field = cls.model_fields[name]
    default: Any = field.get_default(call_default_factory=True)
    shown = "" if default in ("", None) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    return f"`{prefix}{name.upper()}`", shown, field.description or ""


def _first_line(error: type[TriptychError]) -> str:
    return (getdoc(error) or "").splitlines()[0]


def _metrics(registry: CollectorRegistry) -> str:
    collectors: Iterable[Collector] = registry._collector_to_names  # in the order of registration
    rows = []
    for collector in collectors:
        family: Metric = next(iter(collector.describe()))  # type: ignore[attr-defined]
        labels = getattr(collector, "_labels", None) or getattr(collector, "_labelnames", None) or ()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        shown = ", ".join(f"`{label}`" for label in labels)
        rows.append((f"`{name}`", family.type, shown, family.documentation))
    return _table(("series", "type", "labels", "meaning"), rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(re.sub(r"\|", r"\\|", cell) for cell in line) + " |\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser("python -m tools.reference", description="Write the tables of docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing; name the pages that are old")
    check: bool = parser.parse_args().check
    old = []
    for page in sorted({page for page, _ in TABLES}):
        file = DOCS / page
        text = file.read_text("utf-8")
        if (new := generated(text, page)) != text:
            old.append(page)
            if not check:
                file.write_text(new, "utf-8")
    for page in old if check else ():
        sys.stderr.write(f"docs/{page} is old: make reference\n")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
