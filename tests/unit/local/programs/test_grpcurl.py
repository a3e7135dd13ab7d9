"""grpcurl: found, built, or its absence explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import LocalError
from local.programs.grpcurl import VERSION, ensure_grpcurl, find_grpcurl


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(file: Path, text: str = "#!/bin/sh\n") -> Path:
    file.write_text(text)
    file.chmod(0o755)
    return file


def test_the_one_on_path_is_taken(tools: Path) -> None:
    assert find_grpcurl() is None
    mine = program(tools / "grpcurl")
    assert ensure_grpcurl() == find_grpcurl() == mine


def test_go_builds_the_pinned_one_into_the_cache_once(tools: Path) -> None:
    go = program(tools / "go", '#!/bin/sh\necho "$@" > "$GOBIN/grpcurl"; /bin/chmod 755 "$GOBIN/grpcurl"\n')
    built = ensure_grpcurl()
    assert built.read_text() == f"install github.com/fullstorydev/grpcurl/cmd/grpcurl@{VERSION}\n"
    go.unlink()
    assert ensure_grpcurl() == find_grpcurl() == built


def test_without_go_it_says_what_is_missing(tools: Path) -> None:
    with pytest.raises(LocalError, match="no Go to build it with; the tests that call it are skipped"):
        ensure_grpcurl()


def test_a_build_that_fails_is_reported_with_gos_own_reason_and_leaves_nothing(tools: Path) -> None:
    program(tools / "go", "#!/bin/sh\necho 'no route to proxy' >&2; exit 1\n")
    with pytest.raises(LocalError, match="could not be built: no route to proxy"):
        ensure_grpcurl()
    assert [file.name for file in (tools / "cache/triptych").iterdir()] == ["grpcurl.lock"]
