"""Separate stages against one process on a GPU: pictures/s and utilisation of the GPU.

An image network in Triton's Python backend answers pictures of 640x480 and of 12 megapixels: once with decoding and
labelling in the same process, and once behind 1, 2, 4, 8 and 12 preprocess processes of one core each. Before that, GPU
memory before and after each load is compared with the size that the controller measures. On a bare machine `start.py`
runs this module.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.gpu import pictures, plot, tables
from benchmarks.gpu.load import LoadGenerator
from benchmarks.gpu.run import GpuRun
from benchmarks.report import RESULTS, Report
from local.errors import LocalError

TITLE = "Separate or grouped, on a GPU"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="as PyTorch names it: cuda or cpu")
    parser.add_argument("--network", choices=("torch", "numpy"), default="torch", help="numpy: a stand-in for a CPU")
    parser.add_argument("--width", type=int, default=1280, help="of the network; 1280 and 32 are those of ViT-H/14")
    parser.add_argument(
        "--depth", type=int, default=32, help="of the network: 632 million weights, 0.3 TFLOP a picture"
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8, 12], help="of preprocess")
    parser.add_argument("--pictures", nargs="+", choices=tuple(pictures.SIZES), default=list(pictures.SIZES))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each point")
    parser.add_argument("--warm-s", type=float, default=2.0, help="under load before each point")
    parser.add_argument("--pause-s", type=float, default=14.0, help="before and after each load that is measured")
    parser.add_argument("--limit-s", type=float, default=480.0, help="no point begins after so many seconds")
    parser.add_argument("--threads", type=int, default=12, help="that decode in the second of the grouped models")
    parser.add_argument("--instances", type=int, default=2, help="of the separate model and of the second grouped one")
    parser.add_argument("--senders", type=int, default=2, help="processes that send")
    parser.add_argument("--predictor", type=Path, default=Path(sys.executable), help="a Python that has Triton")
    parser.add_argument("--path", default="", help="folders with PyTorch and OpenCV for that Python")
    parser.add_argument("--results", type=Path, default=RESULTS / "gpu", help="folder of what is written")
    return parser


def main() -> int:
    """Return 0 if everything was measured, else 1; the report lists the failures."""
    given = arguments().parse_args()
    report = Report("gpu", TITLE, vars(given), given.results)
    files = {size: pictures.make(size) for size in given.pictures}
    with tempfile.TemporaryDirectory(prefix="triptych-gpu-") as name, LoadGenerator(given.senders) as loads:
        run = GpuRun(given, Path(name), files, loads)
        for stage in (run.grouped, run.separate):
            try:
                stage(report)
            except LocalError as error:
                run.faults.append(str(error))
            tables.figures(report, run.points)
            report.write()  # keep the figures so far
    tables.add_to(report, run.points, run.faults)
    report.write()
    if find_spec("matplotlib"):
        plot.draw(given.results)
    return 1 if run.faults else 0


if __name__ == "__main__":
    sys.exit(main())
