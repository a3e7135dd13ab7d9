"""The audit of pinned packages says what was looked up, and fails for what was not."""

from __future__ import annotations

import json
from subprocess import CompletedProcess
from typing import Any

from tools.audit import audit

GOOD = {"name": "numpy", "version": "2.0", "vulns": []}
BAD = {"name": "jinja2", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found on PyPI and could not be audited: ours (1)"}


def audited(*packages: dict[str, Any]) -> tuple[int, list[str]]:
    said: list[str] = []
    answer = CompletedProcess([], 0, json.dumps({"dependencies": packages}), "")
    return audit(["a.txt", "b.txt"], lambda _: answer, said.append), said


def test_packages_without_vulnerabilities_pass() -> None:
    assert audited(GOOD) == (0, ["1 packages looked up, 0 not; 0 known vulnerabilities"])


def test_a_vulnerability_is_named_with_its_file_and_the_version_that_mends_it() -> None:
    code, said = audited(GOOD, BAD)
    assert code == 1
    assert said[0] == "a.txt: jinja2 1.0: PYSEC-1, fixed in: 1.1, 2.0"


def test_a_package_that_the_service_does_not_know_fails() -> None:
    code, said = audited(GOOD, UNKNOWN)
    assert code == 1
    assert said[0] == "the service does not know: ours"


def test_a_service_that_knows_nothing_is_named_as_the_fault() -> None:
    """A mirror of PyPI without its JSON pages."""
    code, said = audited(UNKNOWN)
    assert code == 1
    why = "so nothing was looked up: it needs PyPI's page of each version as JSON"
    assert said[0].startswith(f"the service knows none of 1 packages, {why}")


def test_a_service_that_cannot_be_reached_is_one_line_instead_of_a_traceback() -> None:
    said: list[str] = []
    failed = CompletedProcess([], 1, "", "Traceback (most recent call last):\n  ...\nConnectionError: api.osv.dev\n")
    assert audit(["a.txt"], lambda _: failed, said.append) == 1
    assert said[0].startswith("a.txt: pip-audit failed: ConnectionError: api.osv.dev\nnothing was looked up: it needs")
