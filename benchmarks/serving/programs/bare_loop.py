"""Preprocessing in a loop: `python -m benchmarks.serving.programs.bare_loop FILE S`.

FILE holds the inputs (numpy's .npz with `kind`). The loop starts at a line on stdin, runs for S seconds, and prints the
number of prepared requests, the seconds and the CPU seconds.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.serving.programs import work


def main() -> None:
    file, seconds = sys.argv[1], float(sys.argv[2])
    with np.load(file, allow_pickle=True) as data:
        kind = str(data["kind"])
        inputs = {name: data[name] for name in data.files if name != "kind"}
    for _ in range(5):
        work.before(kind, inputs)
    print("ready", flush=True)
    sys.stdin.readline()
    start, used, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds:
        work.before(kind, inputs)
        count += 1
    print(count, time.perf_counter() - start, time.process_time() - used, flush=True)


if __name__ == "__main__":
    main()
