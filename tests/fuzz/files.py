"""Fuzzer of untrusted files: python -m tests.fuzz.files contracts --seconds 60.

It is guided by the coverage of our code and of the parsers, which are in Python (atheris, libFuzzer). Each input must
pass the check of its kind in `tests.fuzz.file_checks`. A configuration that we accept must also be accepted by
protobuf's C++ parser, which Triton uses. Inputs that increase coverage are cached for the next run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from local.environments import cache_folder

MAX_BYTES = 4096  # of one file: ruamel.yaml reads so much in a quarter of a second
MAX_S = 10.0  # of CPU for one file, with coverage counted
HANGS_S = 900  # by the clock: a machine may be busy, or stand still for minutes
MAX_MEMORY_MIB = 2048
MAX_GROWTH_MIB = 64  # beside the corpus, which is in memory
SEED = 1
FOUND = Path("fuzz-found")
NAMES = ("config", "contracts", "documents", "listings")
COUNTED = ["triptych.contract", "controller.catalog", "google.protobuf.text_format", "ruamel.yaml", "yaml"]

_STATUS = re.compile(r"^#(\d+)\s+(\w+).*\bcov: (\d+).*\bcorp: (\d+)/(\S+).*\brss: (\d+)Mb", re.MULTILINE)


def child(name: str, options: list[str]) -> None:
    """Run inputs until libFuzzer ends the process, with 0 after its time and with 77 at a finding."""
    import atheris

    with atheris.instrument_imports(include=COUNTED, enable_loader_override=False):
        from tests.fuzz.file_checks import KINDS
    checks = [KINDS[name].check]
    if name == "config":
        from tests.fuzz.text_format import check_as_triton

        checks.append(check_as_triton)
    atheris.Setup([sys.argv[0], *options], timed(checks))
    atheris.Fuzz()


def timed(checks: Sequence[Callable[[bytes], None]]) -> Callable[[bytes], None]:
    """Run all checks. Raises `AssertionError` if they take too much CPU."""

    def check(data: bytes) -> None:
        started_s = time.thread_time()
        for each in checks:
            each(data)
        took_s = time.thread_time() - started_s
        assert took_s < MAX_S, f"took {took_s:.1f} s of CPU"

    return check


def run(name: str, seconds: float, runs: int = -1, covered: Path | None = None) -> int:
    """Return 1 after a finding, which is saved and ends the run, or if memory has grown; else 0."""
    if find_spec("atheris") is None:
        print("atheris is not installed: it has wheels for Linux on x86-64 alone; `make fuzz` runs there")
        return 1
    covered = covered or cache_folder() / "fuzz" / name
    covered.mkdir(parents=True, exist_ok=True)
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        command = [sys.executable, "-m", "tests.fuzz.files", name, "--child", *_options(name, Path(scratch), covered)]
        command += [f"-max_total_time={max(1, int(seconds))}", f"-runs={runs}"]
        environ = {**os.environ, "TMPDIR": scratch}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environ
        ) as running:
            said = _followed(running)
    return summary(name, running.returncode, said)


def _options(name: str, scratch: Path, covered: Path) -> list[str]:
    """Arguments of libFuzzer. Seeds and dictionary are written to files."""
    from tests.fuzz.file_checks import KINDS

    kind, seeds, words = KINDS[name], scratch / "seeds", scratch / "words"
    seeds.mkdir()
    for number, data in enumerate(kind.corpus(name)):
        (seeds / f"{number:04}").write_bytes(data)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in kind.words if len(word) < 60))
    return [
        f"-dict={words}",
        f"-artifact_prefix={FOUND}/{name}-",
        f"-max_len={MAX_BYTES}",
        f"-timeout={HANGS_S}",
        f"-rss_limit_mb={MAX_MEMORY_MIB}",
        f"-seed={SEED}",
        str(covered),
        str(seeds),
    ]


def _escaped(word: str) -> str:
    """Word escaped for libFuzzer's dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode())


def _followed(running: subprocess.Popen[str]) -> str:
    """Output of the process; progress lines are printed as they come."""
    assert running.stdout is not None
    said = []
    for line in running.stdout:
        said.append(line)
        if line.startswith("#") and "NEW" not in line and "REDUCE" not in line:
            print(line.strip(), flush=True)
    return "".join(said)


def summary(name: str, code: int, said: str) -> int:
    """Print a summary. Return 1 after a finding, or if memory has grown."""
    states = _STATUS.findall(said)
    if code or not states:
        print(f"{name}: ended with {code}\n{said[-6000:]}", flush=True)
        return 1
    started = next((state for state in states if state[1] == "INITED"), states[0])
    inputs, _, coverage, files, size, memory = states[-1]
    print(f"{name}: {inputs} files, coverage {started[2]} to {coverage}, corpus of {files} files and {size}")
    print(f"{name}: memory {started[5]} MiB after the corpus, {memory} MiB at the end")
    return int(int(memory) - int(started[5]) > MAX_GROWTH_MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--child", action="store_true")
    arguments, options = parser.parse_known_args()
    if arguments.child:
        child(arguments.name, options)
    raise SystemExit(run(arguments.name, arguments.seconds))


if __name__ == "__main__":
    main()
