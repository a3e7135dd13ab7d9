"""What a benchmark leaves behind: `results/<name>/results.json`, the same as tables in `results.md`, and its plots.

Each says on which machine, with which versions and by which command, for a figure without them is none.
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
    """Collects tables and figures; `write` puts them into the folder."""

    name: str
    title: str
    arguments: Mapping[str, Any]
    folder: Path
    _parts: list[str] = field(default_factory=list)
    _figures: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.time)
    _load: tuple[float, ...] = field(default_factory=os.getloadavg)

    def text(self, text: str) -> None:
        """A paragraph of `results.md`, on the terminal too."""
        self._parts.append(text)
        print(text, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Row]) -> None:
        """In Markdown; numbers are shown with three significant digits."""
        lines = [f"### {title}", "", _line(head), _line(["---"] * len(head))]
        self.text("\n".join([*lines, *(_line([_shown(cell) for cell in row]) for row in rows)]))

    def figures(self, name: str, values: Any) -> None:
        """For `results.json`, as they are."""
        self._figures[name] = values

    def plot(self, file: str, text: str) -> Path:
        """Where to draw a picture that `results.md` shows."""
        self._parts.append(f"![{text}]({file})")
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / file

    def write(self) -> None:
        """Everything collected, into the folder."""
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
    """The command as it was typed; `benchmarks/gpu` is a program of its own."""
    folder = Path(sys.argv[0]).parent
    module = "benchmarks.gpu" if folder == ROOT / "benchmarks/gpu" else "benchmarks"
    return " ".join([f"python -m {module}", *sys.argv[1:]])


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Of Python, of what the figures depend on, and of this checkout."""
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
    """Of the checkout; a copy without git is measured too."""
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
    """Within the checkout, where it is there."""
    return str(path.resolve().relative_to(ROOT)) if path.resolve().is_relative_to(ROOT) else path.name
