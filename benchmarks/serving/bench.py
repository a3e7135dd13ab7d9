"""Shared state of the measurements: load generator, folder, rounds, and the life of the systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.report import Report
from benchmarks.serving.measurement.measure import Run
from benchmarks.serving.progress_line import ProgressLine
from benchmarks.serving.systems.base import System
from benchmarks.serving.systems.ensemble import Ensemble
from benchmarks.serving.systems.grouped import Grouped
from benchmarks.serving.systems.kserve_transformer import KServeTransformer
from benchmarks.serving.systems.predictor import Triton
from benchmarks.serving.systems.ray_serve import RayServe
from benchmarks.serving.systems.triptych import Triptych, TriptychGrouped
from benchmarks.serving.workloads import MODELS, ServingWorkload
from local.errors import LocalError
from local.programs.perf import PerfAnalyzer

REFERENCE = Triptych.name
STAGES = ("preprocess", "postprocess")
# Factories by name; each takes the folder of models.
SYSTEMS: Mapping[str, Callable[[Path], System]] = {
    each.name: each for each in (Triptych, TriptychGrouped, Ensemble, KServeTransformer, Grouped, RayServe, Triton)
}


def make(name: str, models: Path) -> System:
    """Build a system by name. Raises `LocalError` if the name is unknown.

    `triptych:server=grpcio` sets a setting of preprocess and postprocess; `preprocess_server` sets it for one of them.
    """
    base, *pairs = name.split(":")
    if base not in SYSTEMS:
        raise LocalError(f"no '{base}'; there are: {', '.join(SYSTEMS)}")
    if not pairs:
        return SYSTEMS[base](models)
    if base != REFERENCE or not all("=" in pair for pair in pairs):
        raise LocalError(f"'{name}': want {REFERENCE}:SETTING=VALUE")
    variant = Triptych(models, variables_of(pairs))
    variant.name, variant.title = name, f"{Triptych.title}, with {', '.join(pairs)}"
    return variant


def variables_of(pairs: Sequence[str]) -> dict[str, str]:
    """Environment variables of pairs such as `server=grpcio`."""
    variables = {}
    for pair in pairs:
        setting, _, value = pair.partition("=")
        named = [stage for stage in (*STAGES, "controller") if setting.startswith(f"{stage}_")]
        for variable in [setting] if named else [f"{stage}_{setting}" for stage in STAGES]:
            variables[variable.upper()] = value
    return variables


@dataclass(frozen=True)
class Bench:
    """Parameters of a benchmark: `seconds` per run, `repeats` rounds, `callers` of closed loops; `runs` so far."""

    program: PerfAnalyzer
    root: Path
    report: Report
    progress: ProgressLine
    systems: Sequence[str]
    callers: Sequence[int]
    seconds: float
    repeats: int
    countries: int
    runs: list[Run] = field(default_factory=list)

    @contextmanager
    def running(
        self, label: str, workloads: Sequence[ServingWorkload], names: Sequence[str] = (), models: Path = MODELS
    ) -> Iterator[list[System]]:
        """Start the systems (all, or those named) for these workloads, and stop them at the end of the block."""
        with ExitStack() as stack:
            started = []
            for name in names or self.systems:
                self.progress.show(f"{label}: {name} starts")
                system, folder = make(name, models), self.root / f"{label}-{name}"
                folder.mkdir(parents=True)
                stack.callback(system.stop)
                system.start(folder, workloads)
                started.append(system)
            yield started

    def rounds(self, label: str, systems: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Round number and index of the system. Each round has all systems and begins with another one."""
        for number in range(self.repeats):
            for place in range(len(systems)):
                at = (number + place) % len(systems)
                self.progress.show(f"{label}, round {number + 1} of {self.repeats}: {systems[at]}")
                yield number, at


def chosen(names: str, known: Mapping[str, object]) -> list[str]:
    """Split a comma-separated list of names. Raises `LocalError` for an unknown name."""
    given = [name.strip() for name in names.split(",") if name.strip()]
    for name in given:
        if name.partition(":")[0] not in known:
            raise LocalError(f"no '{name}'; there are: {', '.join(known)}")
    return given
