"""`triptych verify`: check a model repository, and print the problems of each model with advice."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from triptych.contract.verification.repository import validate_repository
from triptych.contract.verification.tree import CONTRACT
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych_cli.arguments import command_parser

DESCRIPTION = """\
Check every model of a model repository before it is served: config.pbtxt, each version's contract.yaml and files, a
trial run of each contract's steps on made-up rows, routes that two models claim, and families whose members differ.
"""
EXAMPLES = """\
examples:
  triptych verify model-repository
  triptych verify model-repository && git push     in CI: the exit status is 1 if there are problems

exit status: 0 without problems, 1 with problems, 2 for a wrong call
"""

# Advice by the text of a problem; the first match counts, and a problem without a match says itself what is wanted.
ADVICE = {
    r"contract\.yaml:\d+: cannot be read": "write a contract there: docs/guides/contracts.md; fields: triptych schema",
    r"unknown step": "all steps with their fields: triptych steps",
    r": postprocess|: preprocess": "steps and their fields: triptych steps; examples: docs/guides/contracts.md",
    r"contract states|want sha256": "the digests of the files as they are: triptych digests MODEL/VERSION",
    r"belongs to model": "give the contract another route, or make it a version of that model",
    r"must look alike": "state the same inputs and outputs in each contract of the family, make an input that some "
    "lack optional (required: false), or choose another family",
    r"as in its other versions": "keep one route in all versions of a model; another route is another model",
    r"but the folder is": "rename the folder, or correct name",
    r"config\.pbtxt:\d+: cannot be read": "write a config.pbtxt for Triton there: docs/guides/contracts.md",
    r" dims |is not declared|is not in the contract|, but \w+ in ": "state the same tensors in both files",
    r"model\.\w+: no such file": "copy the model's file there, or name it: default_model_filename in config.pbtxt",
    r"is no version|has no version": "put each version into a folder with a whole number as its name, digits_de/1",
    r"is no ONNX model": "export the model again, or copy the whole file",
    r"holds no model folder|no such folder": "name the folder that holds one folder for each model",
}


def main(arguments: Sequence[str]) -> int:
    """Check a model repository. Returns 0, or 1 if it has problems."""
    directory: Path = command_line().parse_args(arguments).directory
    if inner := _inner_folder(directory):
        print(f"{directory}: is {inner}; verify the model repository that holds it", file=sys.stderr)
        return 1
    report = validate_repository(directory)
    for model, note in report.notes.items():
        print(f"note: {model}: {note}")
    if not report.problems:
        print(f"OK {report.summary()}")
        return 0
    by_model = group_by_model(report.problems, directory)
    for model, problems in by_model.items():
        print("\n".join(format_model(model or str(directory), problems)))
    models = sum(1 for model in by_model if model)
    print(f"FAILED {directory}: {len(report.problems)} problem(s) in {models} model(s)", file=sys.stderr)
    return 1


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser("verify", DESCRIPTION, EXAMPLES)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the model repository")
    return parser


def _inner_folder(directory: Path) -> str:
    """The kind of a folder of a model repository; empty for any other."""
    if (directory / CONFIG).is_file():
        return "the folder of one model"
    return "the folder of one version" if (directory / CONTRACT).is_file() else ""


def group_by_model(problems: Sequence[str], directory: Path) -> Mapping[str, Sequence[str]]:
    """Problems by the name of their model; the key '' is the repository itself."""
    within = re.compile(re.escape(f"{directory}/") + r"([^/:]+)")
    by_model: dict[str, list[str]] = {}
    for problem in problems:
        found = within.match(problem)
        by_model.setdefault(found[1] if found else "", []).append(problem)
    return by_model


def format_model(model: str, problems: Sequence[str]) -> list[str]:
    """A heading, a line `path:line: text` for each problem, and each piece of advice once."""
    lines = [f"{model}: {len(problems)} problem(s)"]
    given = set[str]()
    for problem in problems:
        lines.append(f"  {problem}")
        advice = advice_on(problem)
        if advice and advice not in given:
            lines.append(f"    -> {advice}")
            given.add(advice)
    return lines


def advice_on(problem: str) -> str:
    """The first matching advice, or an empty text."""
    return next((advice for pattern, advice in ADVICE.items() if re.search(pattern, problem)), "")
