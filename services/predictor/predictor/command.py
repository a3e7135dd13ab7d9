"""The command line of `tritonserver`, and why each option is as it is."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from predictor.errors import CannotStart

SHARED_MEMORY = Path("/dev/shm")
KEY_VARIABLE = "PREDICTOR_MODEL_CONTROL_KEY"  # not an option, which every user of the machine can read
RESTRICTED = "--grpc-restricted-protocol=model-repository,shared-memory,trace,logging:key="
# A load that hangs keeps one of these threads for ever, and by default there are 4.
LOAD_THREADS = "--model-load-thread-count=32"


@dataclass(frozen=True)
class Options:
    """Options of the command line."""

    model_repository: Path
    host: str
    grpc_port: int
    metrics_port: int
    exit_timeout_s: int
    extra: tuple[str, ...]


def parse(arguments: Sequence[str]) -> Options:
    """Reads the command line; ends the process with a usage line if it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m predictor", description="Starts Triton on this machine.")
    parser.add_argument("--model-repository", type=Path, required=True, help="folder of the models")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--grpc-port", type=int, default=8001, help="default: %(default)s")
    parser.add_argument("--metrics-port", type=int, default=8002, help="0: no metrics; default: %(default)s")
    parser.add_argument("--exit-timeout-s", type=int, default=10, help="for requests in flight on SIGTERM")
    parser.add_argument("extra", nargs="*", help="after `--`: options passed on to tritonserver")
    given = parser.parse_args(arguments)
    given.host = given.host.removeprefix("[").removesuffix("]")
    if not given.model_repository.is_dir():
        raise CannotStart(f"--model-repository {given.model_repository}: no such folder")
    given.model_repository = given.model_repository.resolve()
    return Options(**{**vars(given), "extra": tuple(given.extra)})


def command(server: Path, backends: Path, options: Options, key: str = "") -> list[str]:
    """The whole command line. `key` is needed to load models; empty: no key is needed."""
    return [
        str(server),
        f"--model-repository={options.model_repository}",
        f"--backend-directory={backends}",
        # Models come and go by request of the controller service.
        "--model-control-mode=explicit",
        # One broken model must not make the server unready.
        "--strict-readiness=false",
        # Our config.pbtxt are complete. Completing one starts and stops a process: a cold load took 1.4 s
        # with it, 0.15 s to 0.35 s without (a tiny model of two versions, 2 cores, 2026-11-21).
        "--disable-auto-complete-config",
        f"--grpc-address={_bracketed(options.host)}",
        f"--grpc-port={options.grpc_port}",
        "--allow-http=false",
        *_metrics(options),
        # No GPU here: without these, complaints of NVML and CUDA open every log.
        "--allow-gpu-metrics=false",
        "--pinned-memory-pool-byte-size=0",
        f"--exit-timeout-secs={options.exit_timeout_s}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(options)}",
        LOAD_THREADS,
        *([f"{RESTRICTED}{key}"] if key else []),
        *options.extra,
    ]


def _metrics(options: Options) -> list[str]:
    if not options.metrics_port:
        return ["--allow-metrics=false"]
    # Triton binds the page by libevhtp, which takes an IPv6 address with this prefix only, and then IPv6 alone.
    host = f"ipv6:{options.host}" if ":" in options.host else options.host
    return [f"--metrics-address={host}", f"--metrics-port={options.metrics_port}"]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def shm_prefix(options: Options) -> str:
    """Begins the name of every piece of shared memory of the Triton on this port."""
    return f"triptych-{options.grpc_port}-"


def remove_leftovers(prefix: str) -> None:
    """Frees the shared memory of an earlier Triton with this prefix that was killed, 1 MiB for each model."""
    for file in SHARED_MEMORY.glob(f"{prefix}*"):
        with suppress(OSError):
            file.unlink()
