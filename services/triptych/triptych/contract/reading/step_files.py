"""Reader of the files that the steps of a contract name."""

from __future__ import annotations

from pathlib import Path

from triptych.contract.errors import ContractError, Problem
from triptych.contract.reading.files import FileError, read_bytes
from triptych.contract.schema.contract import Contract
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES, MAX_WORDS, StepFile, word_count


def read_step_files(
    contract: Contract, folder: Path, within: Path | None = None, most: int = MAX_STEP_FILE_BYTES
) -> tuple[dict[str, StepFile], list[Problem]]:
    """The files that steps name, by path in the version's `folder`, and a problem for each that cannot be read.

    They are regular files below `within` (the folder itself by default), after links were resolved. All together have
    at most `most` bytes and `MAX_WORDS` words.
    """
    files: dict[str, StepFile] = {}
    problems = []
    size_bytes = words = 0
    for path, place in contract.step_files().items():
        try:
            content = read_bytes(folder / path, within or folder, most)
        except FileError as error:
            problems.append(Problem(place, f"{path} {error}"))
            continue
        size_bytes, words = size_bytes + len(content), words + word_count(path, content)
        if size_bytes > most or words > MAX_WORDS:
            limit = f"{most} bytes" if size_bytes > most else f"{MAX_WORDS} words"
            problems.append(Problem(place, f"{path} makes the files of the steps larger than {limit} together"))
            break
        files[path] = StepFile.of(content)
    return files, problems


def load_step_files(contract: Contract, folder: Path) -> dict[str, StepFile]:
    """The files that steps name, from the folder of the version. Raises `ContractError`."""
    files, problems = read_step_files(contract, folder)
    if problems:
        raise ContractError([f"{folder}: {problem.text}" for problem in problems])
    return files
