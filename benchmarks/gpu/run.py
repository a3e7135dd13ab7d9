"""Measurement of all points. The grouped models come first; the separate stages must give the same answers."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gpu import load, measure, memory, models
from benchmarks.gpu.load import LoadGenerator, PictureTarget
from benchmarks.gpu.measure import Point
from benchmarks.gpu.models import GROUPED, GROUPED_THREADS, SEPARATE, NetworkParameters
from benchmarks.gpu.systems import GpuSystem, Machine, Separate
from benchmarks.processes import free_port
from benchmarks.report import Report
from local.errors import LocalError
from triptych.datatypes import Array

QUARTER, HALF = f"{SEPARATE}_quarter", f"{SEPARATE}_half"  # of the depth: loads whose memory is known to differ

Answers = Sequence[Mapping[str, Array]]


@dataclass
class GpuRun:
    """A benchmark run, with the points and failures so far."""

    given: argparse.Namespace
    folder: Path
    files: Mapping[str, Sequence[bytes]]
    loads: LoadGenerator
    points: list[Point] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _answers: dict[str, Answers] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def grouped(self, _report: Report) -> None:
        """Measure one Triton in whose process decoding, prediction and labelling happen."""
        repository = self.folder / "grouped"
        models.publish_grouped(repository, self._network(), self.given.threads, self.given.instances)
        with GpuSystem(self._logs("grouped-logs"), self._machine()) as system:
            system.start(system.triton(repository, free_port(), [GROUPED, GROUPED_THREADS]))
            for picture in self.files:
                for model in (GROUPED, GROUPED_THREADS):
                    target = PictureTarget(system.addresses("predictor"), model, self.files[picture], whole=True)
                    self._point(system, target, picture, 1)

    def separate(self, report: Report) -> None:
        """Measure the memory of loads, then Triptych with a growing number of preprocess processes."""
        repository, depth = self.folder / "separate", self.given.depth
        networks = {QUARTER: self._network(depth // 4), HALF: self._network(depth // 2), SEPARATE: self._network()}
        models.publish_separate(repository, networks, self.given.instances)
        with Separate(self._logs("separate-logs"), self._machine()) as system:
            system.open(repository)
            system.grow(1)
            first = next(iter(self.files.values()))[0]
            memory.add_to(report, memory.measure(system, list(networks), first, self.given.pause_s))
            for count in self.given.processes:
                system.grow(count)
                for picture in self.files:
                    target = PictureTarget(system.addresses("preprocess"), SEPARATE, self.files[picture], whole=False)
                    self._point(system, target, picture, count)

    def _point(self, system: GpuSystem, target: PictureTarget, picture: str, processes: int) -> None:
        """Measure a point; on failure add the reason to `faults`."""
        name = f"{target.model}, {picture}, {processes}"
        try:
            if time.monotonic() - self._started > self.given.limit_s:
                raise LocalError(f"no time was left (--limit-s {self.given.limit_s:g})")
            answers = load.once(target.addresses[-1], target)
            measure.check(name, answers, self._answers.setdefault(picture, answers))
            seconds, warm_s = self.given.seconds, self.given.warm_s
            self.points.append(measure.point(system, target, picture, processes, seconds, self.loads, warm_s))
            print(self.points[-1], flush=True)
        except LocalError as error:
            self.faults.append(f"{name}: {error}")

    def _network(self, depth: int = 0) -> NetworkParameters:
        return NetworkParameters(
            self.given.network, self.given.device, self.given.width, max(1, depth or self.given.depth)
        )

    def _machine(self) -> Machine:
        return Machine(self.given.predictor, self.given.path, self.given.device.startswith("cuda"))

    def _logs(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder
