"""Settings that the pages name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.settings import Settings as ControllerSettings
from jobs.settings import Settings as JobsSettings
from postprocess.settings import Settings as PostprocessSettings
from preprocess.settings import Settings as PreprocessSettings
from tests.unit.docs.pages import CHANGES, DECISIONS, ROOT, pages

CLASSES = (PreprocessSettings, PostprocessSettings, ControllerSettings, JobsSettings)
KNOWN = {cls.prefix() + name.upper() for cls in CLASSES for name in cls.model_fields}
FILES = [file for file in pages() if DECISIONS not in file.parents and file != CHANGES]


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_every_setting_that_a_page_names_exists(file: Path) -> None:
    named = set(
        re.findall(r"\b(?:PREPROCESS|POSTPROCESS|CONTROLLER|JOBS)_[A-Z0-9_]*[A-Z0-9]\b", file.read_text("utf-8"))
    )
    assert named <= KNOWN
