"""The version of the project, in every file that states it.

    python -m tools.version            print it; fails if the files disagree
    python -m tools.version 0.2.0      set it everywhere (make version-set VERSION=0.2.0)

Image tags in manifests/ follow from the chart's appVersion: make version-set renders them again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?")

# Files, each with a pattern for each place in it: before the version, the version, after it.
PROJECT = r'(?m)(?<=^version = ")(.+)(?="$)'
PLACES: Mapping[str, tuple[str, ...]] = {
    "services/triptych/triptych/__init__.py": (r'(?m)(?<=^__version__ = ")(.+)(?="$)',),
    "services/triptych/pyproject.toml": (PROJECT,),
    "services/preprocess/pyproject.toml": (PROJECT,),
    "services/postprocess/pyproject.toml": (PROJECT,),
    "services/controller/pyproject.toml": (PROJECT,),
    "services/jobs/pyproject.toml": (PROJECT,),
    "client/pyproject.toml": (PROJECT,),
    "cli/pyproject.toml": (PROJECT,),
    "helm/triptych/Chart.yaml": (r"(?m)(?<=^version: )(.+)$", r"(?m)(?<=^appVersion: )(.+)$"),
}


class VersionError(Exception):
    """A wrong version, a file without one, or files that disagree; the text says which and what to do."""


def stated(root: Path = ROOT) -> dict[str, list[str]]:
    """The versions of each file. Raises `VersionError` for a file without one."""
    found: dict[str, list[str]] = {}
    for name, patterns in PLACES.items():
        text = (root / name).read_text("utf-8")
        found[name] = [match for pattern in patterns for match in re.findall(pattern, text)]
        if len(found[name]) != len(patterns):
            raise VersionError(f"{name}: want {len(patterns)} lines with a version, got {len(found[name])}")
    return found


def agreed(root: Path = ROOT) -> str:
    """The version that all files state. Raises `VersionError` if they disagree."""
    found = stated(root)
    versions = {version for each in found.values() for version in each}
    if len(versions) != 1:
        lines = "\n".join(f"  {name}: {', '.join(each)}" for name, each in found.items())
        raise VersionError(f"the files state several versions; make version-set VERSION=... sets one:\n{lines}")
    return versions.pop()


def set_version(version: str, root: Path = ROOT) -> None:
    """Write a version into every file. Raises `VersionError` for one that is not semantic."""
    if not VERSION.fullmatch(version):
        raise VersionError(f"want a semantic version such as 0.2.0 or 0.2.0-rc.1, got '{version}'")
    stated(root)
    for name, patterns in PLACES.items():
        file = root / name
        text = file.read_text("utf-8")
        for pattern in patterns:
            text = re.sub(pattern, version, text)
        file.write_text(text, "utf-8")


def main() -> int:
    """Set the version, or print it. Returns 1 if that fails."""
    try:
        if sys.argv[1:]:
            set_version(sys.argv[1])
        print(agreed())
    except VersionError as error:
        sys.stderr.write(f"version: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
