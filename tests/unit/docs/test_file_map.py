"""Files and functions that the maps name: README.md, the architecture, the READMEs of services."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.docs.pages import ROOT

MAPS = [ROOT / "README.md", ROOT / "docs/architecture.md", *sorted((ROOT / "services").glob("*/README.md"))]
PACKAGE = re.compile(r"`((?:triptych|preprocess|postprocess|controller|predictor)/[\w/.]*(?:\.py|/))`")
FILE_AND_FUNCTION = re.compile(r"`([\w/.-]+\.py)`[^`|]*?(?:\]\([^)]*\))?[^`|]*?, function `(\w+)`")


def file_of(path: str) -> Path:
    """The file of a path below a package, or of one from the top of the tree."""
    package = path.partition("/")[0]
    below = ROOT / "services" / package / path
    return below if below.exists() else ROOT / path


def functions_of(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, kinds)}


@pytest.mark.parametrize("file", MAPS, ids=[str(file.relative_to(ROOT)) for file in MAPS])
def test_every_file_below_a_package_exists_and_its_link_leads_there(file: Path) -> None:
    text = file.read_text("utf-8")
    named = PACKAGE.findall(text)
    assert not [path for path in named if not file_of(path).exists()]
    links = re.findall(rf"\[{PACKAGE.pattern}\]\(([^)]+)\)", text)
    assert not [path for path, link in links if (file.parent / link).resolve() != file_of(path)]


def test_every_function_that_the_readme_names_is_in_its_file() -> None:
    named = FILE_AND_FUNCTION.findall((ROOT / "README.md").read_text("utf-8"))
    assert {function for _, function in named} >= {"decode", "decide", "choose", "choose_victims", "shut_down"}
    assert not [(path, function) for path, function in named if function not in functions_of(file_of(path))]
