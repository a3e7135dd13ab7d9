"""The command line of `triptych init`."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tritonclient.grpc import model_config_pb2 as mc

from triptych.contract.reading.files import cause
from triptych.contract.schema.declarations import FAMILY, ROUTE
from triptych.contract.specs import DEFAULT_ROUTE
from triptych.contract.verification.onnx_file import NotOnnx, read_header
from triptych.contract.verification.repository import validate_repository
from triptych.contract.verification.tree import name_fault
from triptych.contract.verification.triton_config import FILE as CONFIG
from triptych.contract.verification.triton_config import ConfigError, parse_config
from triptych_cli.arguments import argument_type, command_parser, matching, whole_number
from triptych_cli.init.convert import CONVERTERS, converted
from triptych_cli.init.draft import CannotServe, Draft, draft_of, open_notes
from triptych_cli.init.patterns import PATTERNS, TOKENIZER
from triptych_cli.init.render import config_text, contract_text

DESCRIPTION = """\
Make a model folder of an ONNX file: config.pbtxt and a contract that `triptych verify` accepts. Names, datatypes and
dimensions come from the file. Change the contract afterwards: what a caller sends, the steps, the names of classes.
"""
EXAMPLES = """\
examples:
  triptych init model.onnx --family churn
  triptych init resnet50.onnx --family animals --like image-classifier
  triptych init minilm.onnx --family sentences --like text --tokenizer tokenizer.json
  triptych init de.onnx --family sales_forecast --route DE --repository model-repository
  triptych init better.onnx --family churn --version 2
  triptych init --from churn.pkl --trust-pickle --family churn --like tabular
  triptych init --from prices.txt --family prices            a model of LightGBM, with onnxmltools installed

exit status: 0, 1 if the file cannot be served as it is, 2 for a wrong call
"""


def main(arguments: Sequence[str]) -> int:
    """Make the folder. Returns 0, or 1 with the reason on standard error."""
    parser = command_line()
    given = parser.parse_args(arguments)
    if (given.file is None) == (given.source is None):
        parser.error("give either FILE, an ONNX file, or --from with a file to convert")
    try:
        with TemporaryDirectory(prefix="triptych-init-") as folder:
            if given.source is not None:
                given.file = _converted(given, Path(folder))
            return _init(given)
    except NotOnnx as error:
        convert = f"; to convert it: --from {given.file}" if given.file.suffix.lower() in CONVERTERS else ""
        print(f"{given.source or given.file}: is no ONNX model, or not whole: {error}{convert}", file=sys.stderr)
    except CannotServe as error:
        print(f"{given.source or given.file}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename or given.file}: {cause(error)}", file=sys.stderr)
    return 1


def command_line() -> argparse.ArgumentParser:
    """The command line."""
    parser = command_parser("init", DESCRIPTION, EXAMPLES)
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the ONNX file; it is copied")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="convert a model: .pkl or .joblib of scikit-learn, .txt of LightGBM, .json or .ubj of XGBoost",
    )
    parser.add_argument("--trust-pickle", action="store_true", help="read a pickle, which runs code of whoever made it")
    parser.add_argument(
        "--family", required=True, type=matching(FAMILY), help="what the model is for, in small letters: churn"
    )
    parser.add_argument(
        "--route",
        default=DEFAULT_ROUTE,
        type=matching(ROUTE),
        help="member of the family, in capitals: DE; not needed for the only one",
    )
    parser.add_argument(
        "--name",
        type=argument_type(_folder_name),
        help="the model's name, by default the family with the route: sales_forecast_de",
    )
    parser.add_argument("--version", type=whole_number(1, "a version"), default=1, help="number of the version (1)")
    parser.add_argument(
        "--repository", type=Path, default=Path("model-repository"), metavar="DIR", help="(model-repository)"
    )
    parser.add_argument(
        "--like", choices=PATTERNS, default="plain", help="the contract to start from (plain: the model's own tensors)"
    )
    parser.add_argument(
        "--tokenizer", type=Path, metavar="FILE", help="for --like text (tokenizer.json beside the model file)"
    )
    parser.add_argument("--max-rows", type=whole_number(1, "rows"), default=64, help="most rows of one request (64)")
    return parser


def _folder_name(text: str) -> str:
    """The name of a model. Raises `ValueError` if no folder of a model repository can have it."""
    if not text or "/" in text or text.startswith("."):
        raise ValueError(f"want the name of a folder, without a / and a point first, got '{text}'")
    if fault := name_fault(text):
        raise ValueError(fault)
    return text


def _converted(given: argparse.Namespace, folder: Path) -> Path:
    """The ONNX file that a converter has made in the folder. Raises `CannotServe` and `OSError`."""
    made = converted(given.source, trusts_pickles=given.trust_pickle)
    for note in made.notes:
        print(f"note: {note}")
    file = folder / f"{given.source.stem}.onnx"
    file.write_bytes(made.data)
    return file


def _init(given: argparse.Namespace) -> int:
    with given.file.open("rb") as file:
        header = read_header(file)
    draft = draft_of(header)
    pattern, max_rows = PATTERNS[given.like](draft), draft.max_rows or given.max_rows
    if pattern.needs_tokenizer:  # which gives the rows of a request one size
        draft = replace(draft, notes=[note for note in draft.notes if note not in open_notes(header.inputs)])
    if pattern.model_outputs is not None:
        draft = replace(draft, outputs=pattern.model_outputs)
    tokenizer: Path = given.tokenizer or given.file.with_name(TOKENIZER)
    if pattern.needs_tokenizer and not tokenizer.is_file():
        raise CannotServe(f"{tokenizer}: no such file; name the tokenizer of the model with --tokenizer")
    name = given.name or _name(given.family, given.route)
    model: Path = given.repository / name
    version = model / str(given.version)
    if version.exists():
        raise CannotServe(
            f"{version} is there already; a published version never changes: give --version another number"
        )
    config, contract = (
        config_text(name, draft, max_rows),
        contract_text(given.family, given.route, max_rows, draft, pattern),
    )
    config_file = model / CONFIG
    kept = config_file.read_text(encoding="utf-8") if config_file.exists() else ""
    if kept and (different := _different(kept, config)):
        raise CannotServe(
            f"{config_file} is that of all versions of the model, and {different}: "
            "make it another model, with --name and a --route or --family of its own"
        )
    _copy(given.file, header.weight_files, version)
    if pattern.needs_tokenizer:
        shutil.copyfile(tokenizer, version / TOKENIZER)
    made = [version / "contract.yaml", version / "model.onnx"]
    if not kept:
        config_file.write_text(config, encoding="utf-8")
        made.insert(0, config_file)
    elif kept != config:
        print(f"kept: {config_file}, which other versions use")
    (version / "contract.yaml").write_text(contract, encoding="utf-8")
    print(f"made: {', '.join(map(str, made))}")
    return _report(given, version, draft)


def _different(kept: str, made: str) -> str:
    """The first tensor of `made` that another configuration lacks or has otherwise; '' if it fits, or is no text."""
    try:
        there, here = parse_config(kept), parse_config(made)
    except ConfigError:
        return ""  # `_report` says it
    for kind in ("input", "output"):
        known = {tensor.name: tensor for tensor in getattr(there, kind)}
        for tensor in getattr(here, kind):
            have = known.pop(tensor.name, None)
            if have is None:
                return f"has no {kind} '{tensor.name}'"
            if have.data_type != tensor.data_type or not _fits(have.dims, tensor.dims):
                return f"{kind} '{tensor.name}' is {_spelled(have)} there, {_spelled(tensor)} in the file"
        for name in known:
            return f"has {kind} '{name}', which the new version lacks"
    return ""


def _spelled(tensor: Any) -> str:
    return f"{mc.DataType.Name(tensor.data_type).removeprefix('TYPE_')}{list(tensor.dims)}"


def _fits(wide: Sequence[int], dims: Sequence[int]) -> bool:
    return len(wide) == len(dims) and all(size in (-1, other) for size, other in zip(wide, dims, strict=True))


def _copy(file: Path, weight_files: Collection[str], version: Path) -> None:
    """Copy the model and the files of its weights. Raises `CannotServe` if one is missing or elsewhere."""
    for name in weight_files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise CannotServe(f"its weights are in {name}: export it with the weights beside the model")
        if not (file.parent / name).is_file():
            raise CannotServe(f"its weights are in {file.parent / name}, which is no file: copy it there")
    version.mkdir(parents=True)
    shutil.copyfile(file, version / "model.onnx")
    for name in weight_files:
        (version / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.parent / name, version / name)


def _name(family: str, route: str) -> str:
    return family if route == DEFAULT_ROUTE else f"{family}_{re.sub('[^a-z0-9]+', '_', route.lower())}"


def _report(given: argparse.Namespace, version: Path, draft: Draft) -> int:
    """Print the notes, and the problems of the model. Returns the exit status."""
    for note in draft.notes:
        print(f"note: {note}")
    problems = validate_repository(given.repository).problems
    own = [problem for problem in problems if problem.startswith(f"{version.parent}/")]
    for problem in own:
        print(problem, file=sys.stderr)
    if own:
        return 1
    commands = f"triptych try {version.parent} and triptych verify {given.repository}"
    print(f"next: look at {version}/contract.yaml, then {commands}")
    return 0
