"""Reader of the files that the steps of a contract name."""

from __future__ import annotations

from pathlib import Path

from triptych.contract.errors import ContractError, Problem
from triptych.contract.reading.files import FileError, read_bytes
from triptych.contract.schema.contract import Contract
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES, StepFile


def read_step_files(
    contract: Contract, folder: Path, within: Path | None = None, most: int = MAX_STEP_FILE_BYTES
) -> tuple[dict[str, StepFile], list[Problem]]:
    """The files that steps name, by path in the version's `folder`, and a problem for each that cannot be read.

    They are regular files of at most `most` bytes below `within` (the folder itself by default), after links were
    resolved.
    """
    files: dict[str, StepFile] = {}
    problems = []
    for path, place in contract.step_files().items():
        try:
            files[path] = StepFile.of(read_bytes(folder / path, within or folder, most))
        except FileError as error:
            problems.append(Problem(place, f"{path} {error}"))
    return files, problems


def load_step_files(contract: Contract, folder: Path) -> dict[str, StepFile]:
    """The files that steps name, from the folder of the version. Raises `ContractError`."""
    files, problems = read_step_files(contract, folder)
    if problems:
        raise ContractError([f"{folder}: {problem.text}" for problem in problems])
    return files
