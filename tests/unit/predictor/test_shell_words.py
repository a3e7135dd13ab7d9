"""The path of a model repository reaches the process of a model through a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictor.errors import CannotStart
from predictor.shell_words import as_word


@pytest.mark.parametrize("name", ["my models", "a;b", "$HOME", "Zürich"])
def test_a_path_that_a_shell_would_change_gets_a_link(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    link = as_word(folder, tmp_path / "cache")
    assert link.parent == tmp_path / "cache/repositories"
    assert link.resolve() == folder.resolve()
    assert as_word(folder, tmp_path / "cache") == link


def test_any_other_path_stays(tmp_path: Path) -> None:
    assert as_word(tmp_path / "models-1", tmp_path / "cache") == tmp_path / "models-1"
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_a_shell_would_split_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="my cache: want letters.* set XDG_CACHE_HOME"):
        as_word(tmp_path, tmp_path / "my cache")
