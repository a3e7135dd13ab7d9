"""Objects of published versions in a whole mirror: other bytes never replace a published file.

The contract is uploaded last, so a version with a contract is complete. While its contract stays the same object, none
of its files is replaced. A version with another contract is a new publication and is replaced as a whole; the
controller, which recorded the first one, does not load it under the old number.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from controller.store.keys import version_of
from controller.store.objects import Object
from triptych.contract.reading.files import FileError, printable_path, read_text
from triptych.contract.verification.tree import CONTRACT, is_passed_over, sha256_of

REFUSED = (
    "changed after its version was published; the bytes of then stay here; "
    "put them back, or upload the new ones as a new version"
)

log = logging.getLogger(__name__)


class PublishedObjects:
    """The published object of each file, kept on disk for restarts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._recorded_digests = _read(file)
        self._written = dict(self._recorded_digests)

    def get(self, path: str) -> Object | None:
        """The published object of a file."""
        return self._recorded_digests.get(path)

    def refused_replacements(self, wanted: Mapping[str, Object], found: Mapping[str, Object]) -> dict[str, str]:
        """Objects that would replace a published file, with the reason."""
        return {
            path: REFUSED
            for path, known in wanted.items()
            if (recorded_digests := self._recorded_digests.get(path))
            and not recorded_digests.same(known)
            and not is_passed_over(path)
            and self._is_published(path, found)
        }

    def record(self, present: Mapping[str, Object], found: Mapping[str, Object]) -> None:
        """Record every version whose contract is present; drop versions that were deleted or published again."""
        self._recorded_digests = {
            path: known for path, known in self._recorded_digests.items() if self._is_published(path, found)
        }
        for path, known in present.items():
            contract = _contract_of(path)
            is_object = bool(known.tag) or known == found.get(path)
            if contract in present and contract in found and is_object and path not in self._recorded_digests:
                self._recorded_digests[path] = known
        if self._recorded_digests != self._written:
            self._write()

    def _is_published(self, path: str, found: Mapping[str, Object]) -> bool:
        contract = _contract_of(path)
        then, now = self._recorded_digests.get(contract), found.get(contract)
        return then is not None and now is not None and then.same(now)

    def _write(self) -> None:
        rows = {path: [known.size, known.modified_ns, known.tag] for path, known in self._recorded_digests.items()}
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(rows))
        os.replace(draft, self._file)
        self._written = dict(self._recorded_digests)


def digest_mismatch(folders: Sequence[Path]) -> str:
    """The first file that differs from the `files` of the contract; '' if none does. The first folder wins."""

    def find(path: str) -> Path | None:
        return next((folder / path for folder in folders if (folder / path).is_file()), None)

    contract = find(CONTRACT)
    for path, want in sorted((_stated(contract) if contract else {}).items()):
        file = find(path)
        if file is None:
            return f"states {printable_path(path)}, which is not there yet"
        if (got := sha256_of(str(file))) != want:
            return f"states {printable_path(path)} with {want}, got {got}; the version does not come"
    return ""


def _stated(contract: Path) -> dict[str, str]:
    """The `files` of a contract; none if it cannot be read, which the controller reports."""
    try:
        content = yaml.safe_load(read_text(contract))
    except (FileError, yaml.YAMLError, ValueError, RecursionError):
        return {}
    files = content.get("files") if isinstance(content, dict) else None
    return {str(path): str(want) for path, want in files.items()} if isinstance(files, dict) else {}


def _contract_of(path: str) -> str:
    """The contract beside a file; '' if the file belongs to no version."""
    version = version_of(path)
    return f"{version}/{CONTRACT}" if version else ""


def _read(file: Path) -> dict[str, Object]:
    """Read the file. Without a valid one, files are recovered by size and time."""
    try:
        rows = json.loads(file.read_text())
        return {str(path): Object(int(size), int(at_ns), str(tag)) for path, (size, at_ns, tag) in rows.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("published objects of the mirror unreadable", extra={"file": str(file), "reason": str(error)})
        return {}
