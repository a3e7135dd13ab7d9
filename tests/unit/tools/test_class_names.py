"""Names of classes: one name never means two things."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.unit.tools.tracked_files import ROOT, python_files

SEVERAL = {
    "Settings",  # of each service, in its module `settings`
    "TritonPythonModel",  # Triton's Python backend looks for it
}


def test_no_two_classes_outside_the_tests_have_the_same_name() -> None:
    places = defaultdict(list)
    for path in python_files():
        for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SEVERAL} == {}
