"""The validator of one version. `triptych verify` and the running controller call the same function."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from triptych.contract.errors import ContractError
from triptych.contract.reading.files import LFS_LINE, LFS_MAX_BYTES, LFS_POINTER, MAX_BYTES, cause, printable_path
from triptych.contract.reading.loader import LocatedContract, load_located
from triptych.contract.reading.step_files import read_step_files
from triptych.contract.schema.contract import Contract
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES, StepFile
from triptych.contract.verification.model_folder import ModelFolder
from triptych.contract.verification.onnx_file import check_model_file
from triptych.contract.verification.tree import (
    CONTRACT,
    MAX_FILES,
    File,
    Tree,
    UnreadableFiles,
    sha256_of,
    stated_faults,
    version_tree,
)
from triptych.contract.verification.trial import trial
from triptych.contract.verification.trial_limits import TrialLimits
from triptych.contract.verification.triton_config import check_config, missing_file, named_files


@dataclass(frozen=True)
class ValidationOptions:
    """Bounds of a validation.

    `has_content` is False in the controller's mirror of a store, where a large file is a placeholder of its size:
    its ONNX header and its sha256 cannot be compared there.
    """

    max_file_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES
    trial: TrialLimits = TrialLimits()
    has_content: bool = True
    max_step_file_bytes: int = MAX_STEP_FILE_BYTES


@dataclass(frozen=True)
class ValidVersion:
    """A version without faults. `located` is None if the contract of a published version cannot be read any more.

    `tree` holds the files of the version without its contract, `step_files` the digests of those that its steps read.
    """

    contract: Contract
    located: LocatedContract | None
    tree: Tree
    step_files: Mapping[str, str]


def validate_version(
    model: ModelFolder,
    number: int,
    models: Collection[str],
    options: ValidationOptions,
    published: Contract | None = None,
) -> ValidVersion:
    """Checks everything that can be known of a version before Triton loads it.

    `models` are the names of all models, for the steps of an ensemble. `published` is the contract of a version that
    was published before: it stays in force, whatever the file says now. Raises `UnreadableFiles` if files of the
    version cannot be read, else `ContractError` with a line for every fault.
    """
    folder = model.path / str(number)
    tree = version_tree(folder, model.root, options.max_files)
    located, files, faults = _read_contract(folder / CONTRACT, model.root, options)
    if published is not None:
        located = None if faults else located
        files, problems = read_step_files(published, folder, model.root, options.max_step_file_bytes)
        faults = [f"{folder / CONTRACT}:1: {problem.text}" for problem in problems]
    contract = published or (located.contract if located else None)
    faults += _policy_faults(model, number)
    faults += missing_model_file(model, number)
    try:
        pointers = _pointer_faults(folder, tree) if options.has_content else []
        faults += pointers
        faults += named_file_faults(model)
        if contract is not None:
            has_header = options.has_content and not pointers
            faults += _agreement_faults(model, folder, contract, models, has_header)
        if contract is not None and published is None:
            faults += _digest_faults(folder, contract, tree, options)
    except OSError as error:
        raise UnreadableFiles([f"{printable_path(error.filename or folder)}: cannot be read: {cause(error)}"]) from None
    if faults or contract is None:
        raise ContractError(faults)
    return ValidVersion(contract, located, tree, {path: file.digest for path, file in files.items()})


def missing_model_file(model: ModelFolder, number: int) -> list[str]:
    """The line about a model file that is not there; none if it is, or if only the backend knows its name."""
    missing = missing_file(model.config, model.path / str(number), model.root)
    return [f"{model.path}/{missing}"] if missing else []


def _read_contract(
    path: Path, root: Path, options: ValidationOptions
) -> tuple[LocatedContract | None, dict[str, StepFile], list[str]]:
    """The contract, the files that its steps read, and its faults with those of its steps on made-up rows."""
    try:
        located = load_located(path, root, options.max_file_bytes)
    except ContractError as error:
        return None, {}, list(error.lines)
    files, problems = read_step_files(located.contract, path.parent, root, options.max_step_file_bytes)
    problems = problems or trial(located.contract, options.trial, files)
    return located, files, list(located.lines_of(problems))


def _policy_faults(model: ModelFolder, number: int) -> Iterator[str]:
    if number not in model.served:
        yield f"{model.config_path}:1: version_policy leaves version {number} out; want {{ all {{ }} }}"


def _agreement_faults(
    model: ModelFolder, folder: Path, contract: Contract, models: Collection[str], has_header: bool
) -> Iterator[str]:
    """Contract, config.pbtxt and the header of an ONNX file, if it can be read, against each other."""
    found = check_config(contract, model.config_text, model.name, model.config, models)
    yield from (f"{model.path}/{fault}" for fault in found)
    if has_header:
        yield from (f"{folder}/{fault}" for fault in check_model_file(model.config, folder))


def _pointer_faults(folder: Path, tree: Tree) -> list[str]:
    """Files that Git LFS left in place of the content, of any backend. Raises `OSError`."""
    small = [file for file in tree.files if len(LFS_LINE) < file.size <= LFS_MAX_BYTES]
    return [f"{folder}/{printable_path(file.path)}: {LFS_POINTER}" for file in small if _is_pointer(folder / file.path)]


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(LFS_LINE)) == LFS_LINE


def named_file_faults(model: ModelFolder) -> list[str]:
    """Files beside the versions that config.pbtxt names and that are not there: a load would fail."""
    return [
        f"{model.config_path}:{line}: {field} is {printable_path(name)}, but there is no file {printable_path(path)}"
        for line, field, name, path in named_files(model.config, model.config_text)
        if not (model.path / path).is_file()
    ]


def _digest_faults(folder: Path, contract: Contract, tree: Tree, options: ValidationOptions) -> Iterator[str]:
    """Files that differ from the `files` of the contract; of placeholders only whether they are there."""
    stated = contract.files or {}

    def digest(file: File) -> str:
        return sha256_of(f"{folder}/{file.path}") if options.has_content else stated.get(file.path, "")

    if stated:
        yield from (f"{folder}/{printable_path(path)}: {text}" for path, text in stated_faults(stated, tree, digest))
