"""`triptych COMMAND`: one command line for models, rollouts and a running controller."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module

from triptych import __version__

# Module, function and help of each command. A function takes the arguments and returns the exit status; its module is
# imported only when the command is called, because some take a second.
COMMANDS = {
    "init": ("triptych_cli.init.command", "main", "make a model folder of an ONNX file, with a contract to start from"),
    "try": ("triptych_cli.try_model.command", "main", "run a request through steps and model, and show every value"),
    "verify": ("triptych_cli.verify", "main", "check every model, version and contract of a model repository"),
    "digests": ("triptych_cli.contracts", "digests", "print the field `files` of a version's contract"),
    "schema": ("triptych_cli.contracts", "schema", "print the JSON Schema of contract.yaml"),
    "steps": ("triptych_cli.steps.command", "main", "print the steps of a contract, or make a package for a new one"),
    "plan": ("triptych_cli.plan.command", "main", "compute replicas for a load, and whether to group the stages"),
    "batch": ("triptych_cli.batch.command", "main", "answer every row of a dataset, and ask the answers by SQL"),
    "jobs": ("triptych_cli.jobs.command", "main", "submit jobs to a service, follow their answers, and end them"),
    "rollout": ("triptych_cli.rollout.command", "main", "raise a version's share step by step, and roll back if worse"),
    "top": ("triptych_cli.top.command", "main", "show each predictor's loaded models, and the latest decisions"),
    "wait": ("triptych_cli.wait.command", "main", "wait until Deployments and InferenceServices run their specs"),
    "mirror": ("triptych_cli.mirror.command", "main", "keep a folder in sync with an object store"),
}
USAGE_ERROR = 2

EPILOG = """\
examples:
  triptych init model.onnx --family churn
  triptych verify model-repository
  triptych plan --requests 500 --p99 50ms --workload sales
  triptych batch run nightly.yaml
  triptych jobs submit job.yaml --file sales=sales.parquet --follow
  triptych rollout digits_gb --to 2 --steps 25,50,100 --hold 60s --documents manifests/served-models
  triptych top --address localhost:9002
  triptych mirror s3://models/eu /mirror/models --once
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status; a wrong call is 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        sys.stderr.write(f"triptych: {unknown_command(words[0])}\n")
        return USAGE_ERROR
    chosen = parser().parse_args(words[:1]).command
    if chosen is None:
        parser().print_help()
        return USAGE_ERROR
    module, function, _ = COMMANDS[chosen]
    run: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    return run(words[1:])


def parser() -> argparse.ArgumentParser:
    """The command line, with a line for each command."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {line}" for name, (_, _, line) in COMMANDS.items())
    made = argparse.ArgumentParser(
        "triptych",
        usage="triptych COMMAND [OPTIONS]",
        description=f"commands, each with --help and examples:\n{lines}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=__version__)
    made.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return made


def unknown_command(word: str) -> str:
    """The sentence for a command that does not exist."""
    close = get_close_matches(word, COMMANDS, n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    return f"there is no command '{word}'.{meant} There are: {', '.join(COMMANDS)}. Help: triptych --help"


if __name__ == "__main__":
    sys.exit(main())
