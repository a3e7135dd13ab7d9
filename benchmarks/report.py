"""Output of a benchmark: figures in `results/<name>/results.json`, tables in `results.md`, and plots.

Each file names the machine, the versions and the command.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from local.environments import ROOT

RESULTS = Path("benchmarks/results")
PACKAGES = ("grpcio", "protobuf", "tritonclient", "numpy", "onnxruntime", "uvloop")
MIB = 1 << 20

Row = Sequence[str | float | int]


@dataclass
class Report:
    """Collector of tables and figures; `write` saves them."""

    name: str
    title: str
    arguments: Mapping[str, Any]
    folder: Path
    _parts: list[str] = field(default_factory=list)
    _figures: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.time)
    _load: tuple[float, ...] = field(default_factory=os.getloadavg)

    def text(self, text: str) -> None:
        """Add a paragraph to `results.md` and print it."""
        self._parts.append(text)
        print(text, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Row]) -> None:
        """Add a Markdown table; floats are shown with three significant digits."""
        lines = [f"### {title}", "", _line(head), _line(["---"] * len(head))]
        self.text("\n".join([*lines, *(_line([_shown(cell) for cell in row]) for row in rows)]))

    def figures(self, name: str, values: Any) -> None:
        """Add values to `results.json`."""
        self._figures[name] = values

    def plot(self, file: str, text: str) -> Path:
        """Add a plot to `results.md` and return the path to save it to."""
        self._parts.append(f"![{text}]({file})")
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / file

    def write(self) -> None:
        """Write `results.json` and `results.md` into the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        made = {
            "command": command(),
            "at": time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(self._started)),
            "seconds": round(time.time() - self._started, 1),
            "machine": machine() | {"load_average_at_start": [round(each, 2) for each in self._load]},
            "versions": versions(),
            "arguments": {key: _plain(value) for key, value in self.arguments.items()},
        }
        (self.folder / "results.json").write_text(json.dumps({**made, "results": self._figures}, indent=1) + "\n")
        text = "\n\n".join([f"# {self.title}", _how(made), *self._parts])
        (self.folder / "results.md").write_text(text + "\n", encoding="utf-8")
        print(f"\nwritten to {self.folder}", flush=True)


def command() -> str:
    """The command line as typed. `benchmarks/gpu` is a separate program."""
    folder = Path(sys.argv[0]).parent
    module = "benchmarks.gpu" if folder == ROOT / "benchmarks/gpu" else "benchmarks"
    return " ".join([f"python -m {module}", *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """CPU, cores, memory and system of this machine."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python, of the packages that figures depend on, and of this checkout."""
    found = {"python": platform.python_version(), "triptych": _commit()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _how(made: Mapping[str, Any]) -> str:
    here = made["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    load = here["load_average_at_start"][0]
    return (
        f"`{made['command']}`, {made['at']}, {made['seconds']:.0f} s. {here['cores']} cores of {here['cpu']}, "
        f"{here['memory_gib']} GiB, {here['system']}; load average at the start {load}. {packages}."
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """Commit of the checkout; `unknown` without git."""
    try:
        asked = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"
    except FileNotFoundError:
        return "unknown"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(cell: str | float | int) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _plain(value: Any) -> Any:
    return _shown_path(value) if isinstance(value, Path) else value


def _shown_path(path: Path) -> str:
    """Path relative to the checkout, or the file name of a path outside."""
    return str(path.resolve().relative_to(ROOT)) if path.resolve().is_relative_to(ROOT) else path.name
