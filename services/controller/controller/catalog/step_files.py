"""Reader of the files that the steps of a published version read. They are read when they are asked for, never kept."""

from __future__ import annotations

from pathlib import Path

from controller.catalog.digests import DIFFERS
from controller.catalog.entities import Version
from triptych.contract import Plan, StepFile
from triptych.contract.reading.files import FileError, read_bytes
from triptych.contract.steps.step_file import MAX_STEP_FILE_BYTES
from triptych.errors import InvalidRequest, Unavailable, clipped


class StepFileReader:
    """Reads files of versions below the folder of the models. It blocks on files; any thread may use it."""

    def __init__(self, models: Path, max_bytes: int = MAX_STEP_FILE_BYTES) -> None:
        self._models, self._max_bytes = models, max_bytes

    def read(self, model: str, version: Version, path: str) -> StepFile:
        """A file as it was published. Raises `InvalidRequest` for a path that no step of the version names.

        Raises `Unavailable` if the file is gone or differs from the published one.
        """
        known = version.step_files
        if path not in known:
            named = ", ".join(sorted(known)) or "none"
            raise InvalidRequest(f"no step of {model} version {version.number} reads '{clipped(path)}'; known: {named}")
        place = f"{path} of {model} version {version.number}"
        try:
            content = read_bytes(self._models / model / str(version.number) / path, self._models, self._max_bytes)
        except FileError as error:
            raise Unavailable(f"{place} {error}; put the published file back") from None
        file = StepFile.of(content)
        if file.digest != known[path]:
            raise Unavailable(f"{place} {DIFFERS}, or put the published file back")
        return file

    def plan(self, model: str, version: Version) -> Plan:
        """The plan of a version with its files. Raises `Unavailable`."""
        return Plan(version.contract, {path: self.read(model, version, path) for path in version.step_files})
