"""Look up the pinned packages of every requirements file in a vulnerability service, by pip-audit.

    python -m tools.audit [OPTIONS OF PIP-AUDIT]

Each file is looked up alone, because two files may pin different versions of a package. The exit status is 1 for a
known vulnerability, a package that the service does not know, or a service that does not answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OPTIONS = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json")
SERVICES = (
    "it needs PyPI's page of each version as JSON, which a mirror may lack; "
    'make audit AUDIT="-s osv" asks https://api.osv.dev instead'
)

Run = Callable[[str], "subprocess.CompletedProcess[str]"]


def audit(files: Sequence[str], run: Run, say: Callable[[str], object] = print) -> int:
    """Print the faults of each file and a summary. Return the exit status."""
    known, unknown, vulnerable = set[str](), set[str](), 0
    for file in files:
        done = run(file)
        try:
            packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (ValueError, KeyError):
            say(f"{file}: pip-audit failed: {_last_line(done.stderr)}\nnothing was looked up: {SERVICES}")
            return 1
        for package in packages:
            name = package["name"]
            if "skip_reason" in package:
                unknown.add(name)
                continue
            known.add(name)
            for found in package["vulns"]:
                vulnerable += 1
                fixed = ", ".join(found["fix_versions"]) or "none"
                say(f"{file}: {name} {package['version']}: {found['id']}, fixed in: {fixed}")
    if unknown and not known:
        say(f"the service knows none of {len(unknown)} packages, so nothing was looked up: {SERVICES}")
    elif unknown:
        say(f"the service does not know: {', '.join(sorted(unknown))}")
    say(f"{len(known)} packages looked up, {len(unknown)} not; {vulnerable} known vulnerabilities")
    return int(bool(unknown or vulnerable))


def _last_line(text: str) -> str:
    return (text.strip() or "no output").splitlines()[-1]


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "*requirements*.txt"], cwd=ROOT, check=True, capture_output=True, text=True
    )

    def run(file: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip_audit", *OPTIONS, *sys.argv[1:], "-r", file]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    return audit(listed.stdout.split(), run)


if __name__ == "__main__":
    sys.exit(main())
