"""The command line of `triptych try`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from triptych.contract import Contract, ContractError, Plan, load_contract, load_step_files
from triptych.contract.reading.files import cause
from triptych.contract.trace import Predict, trace
from triptych.contract.verification.model_folder import ModelFolder, read_model_folder
from triptych.contract.verification.tree import CONTRACT
from triptych.contract.verification.trial import excesses
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych.contract.verification.triton_config import ConfigError
from triptych.errors import TriptychError
from triptych_cli.arguments import command_parser, whole_number
from triptych_cli.try_model.request import WrongData, request_of
from triptych_cli.try_model.show import lines_of, write_pictures

DESCRIPTION = """\
Run one request through the steps of a contract and the model, without any server, and show the values after every
step. The model runs by ONNX Runtime. Without data it is the first example of the contract, or a made-up row.
"""
EXAMPLES = """\
examples:
  triptych try model-repository/digits_de image=eight.png top_k=2
  triptych try model-repository/digits_de image=eight.png --pictures /tmp/steps
  triptych try model-repository/churn age=41 city=Bonn
  triptych try model-repository/churn 'age=[[41], [27]]' 'city=[["Bonn"], ["Ulm"]]'
  triptych try model-repository/churn request.json      {"inputs": {"age": [[41]]}, "parameters": {}}

exit status: 0, 1 if the request or the model fails, 2 for a wrong call
"""


class NotRunnable(RuntimeError):
    """The model cannot be run here; the text says what to do."""


def main(arguments: Sequence[str]) -> int:
    """Try a model. Returns 0, or 1 with the reason on standard error."""
    given = command_line().parse_args(arguments)
    try:
        model = _model(given.model)
        _try(given, model, _version(model, given.version))
    except (TriptychError, WrongData, NotRunnable, ConfigError) as error:
        print(error, file=sys.stderr)
    except ContractError as error:
        print("\n".join(error.lines), file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or given.model}: {cause(error)}", file=sys.stderr)
    except Exception as error:  # of a step, or of ONNX Runtime
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    else:
        return 0
    return 1


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser("try", DESCRIPTION, EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="the model's folder")
    parser.add_argument(
        "data", nargs="*", default=[], metavar="DATA", help="NAME=VALUE for inputs and parameters, or one JSON file"
    )
    parser.add_argument("--version", type=whole_number(1, "a version"), help="(the highest)")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write the pictures after each step there")
    parser.add_argument("--no-model", action="store_true", help="stop before the model")
    return parser


def _model(folder: Path) -> ModelFolder:
    """The model in the folder. Raises `WrongData` if it has none, and `ConfigError` and `OSError`."""
    if not (folder / CONFIG).exists():
        inside = f", which has no {CONFIG}" if folder.is_dir() else ", which is no folder"
        raise WrongData(f"want a model's folder, as in model-repository/digits_de, got {folder}{inside}")
    return read_model_folder(folder, folder.parent)


def _version(model: ModelFolder, wanted: int | None) -> int:
    """The wanted version, or the highest. Raises `WrongData` if there is none."""
    version = max(model.versions, default=1) if wanted is None else wanted
    if version not in model.versions:
        raise WrongData(
            f"{model.path} has no version {version}; there are: {', '.join(map(str, model.versions)) or 'none'}"
        )
    return version


def _try(given: argparse.Namespace, model: ModelFolder, version: int) -> None:
    folder = model.path / str(version)
    contract: Contract = load_contract(folder / CONTRACT)
    files = load_step_files(contract, folder)
    if problems := excesses(contract, files):
        raise ContractError([f"{folder / CONTRACT}: {problem.text}" for problem in problems])
    request, plan = request_of(contract, given.data), Plan(contract, files)
    print(f"{model.name}, version {version}; the request is {request.source}")
    if given.pictures:
        given.pictures.mkdir(parents=True, exist_ok=True)
    last = ""
    predict = None if given.no_model else _predict_by(model, folder)
    for moment in trace(plan, request.inputs, request.parameters, predict):
        print("\n".join(lines_of(moment, last)))
        last = moment.part
        if given.pictures:
            write_pictures(moment, given.pictures)


def _predict_by(model: ModelFolder, version: Path) -> Predict:
    """The function of the model. Raises `NotRunnable`: the image of the controller has no model runtime."""
    try:
        from triptych_client.homes.onnx_session import NoRuntime, predict_by
    except ImportError:
        raise NotRunnable("the package triptych-client is not installed: pip install './client[local]'") from None
    try:
        return predict_by(model.config, version)
    except NoRuntime as error:
        raise NotRunnable(str(error)) from None
