"""Names of classes: one name never means two things."""

from __future__ import annotations

import ast
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
SEVERAL = {
    "Settings",  # of each service, in its module `settings`
    "TritonPythonModel",  # Triton's Python backend looks for it
}


def test_no_two_classes_outside_the_tests_have_the_same_name() -> None:
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    places = defaultdict(list)
    for path in listed.splitlines():
        if path.startswith("tests/") or not (ROOT / path).is_file():
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SEVERAL} == {}
