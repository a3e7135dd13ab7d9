"""Programs that are Go modules: found, built, or their absence explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from local.errors import LocalError
from local.programs import __main__ as command
from local.programs import found
from local.programs.go_programs import GRPCURL, HELM, HELM_3, HELM_4


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH; the cache is empty, and there is no development cluster."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(found, "_cluster_path", str)
    return tmp_path


def program(file: Path, text: str = "#!/bin/sh\n") -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def helm(folder: Path, version: str) -> Path:
    return program(folder / "helm", f"#!/bin/sh\necho '{version}'\n")


def go(folder: Path) -> Path:
    """A Go whose programs are its own arguments and variables."""
    lines = ('name=${4%%@*}; name="$GOBIN/${name##*/}"', 'echo "$@" $CGO_ENABLED $GOPROXY > "$name"')
    return program(folder / "go", "\n".join(("#!/bin/sh", *lines, '/bin/chmod 755 "$name"', "")))


def test_the_one_on_path_is_taken(tools: Path) -> None:
    assert GRPCURL.find() is None
    mine = program(tools / "grpcurl")
    assert GRPCURL.ensure() == GRPCURL.find() == mine


def test_the_one_of_the_development_cluster_is_taken_if_none_is_on_path(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = helm(tools / "cluster", "v3.22")
    monkeypatch.setattr(found, "_cluster_path", lambda: str(tools / "cluster"))
    assert HELM.find() == HELM_3.ensure() == theirs
    assert HELM_4.find() is None
    mine = helm(tools, "v4.3.2+g1234567")
    assert (HELM.find(), HELM_3.find(), HELM_4.find()) == (mine, theirs, mine)


def test_go_builds_the_pinned_one_into_the_cache_once(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "https://proxy.example.com")
    go(tools)
    built = GRPCURL.ensure()
    wanted = f"install -trimpath -ldflags=-s -w {GRPCURL.module}@{GRPCURL.version} 0 https://proxy.example.com\n"
    assert built.read_text() == wanted
    (tools / "go").unlink()
    assert GRPCURL.ensure() == GRPCURL.find() == built


def test_each_version_of_helm_is_built_where_only_the_other_is_here(tools: Path) -> None:
    helm(tools, "v5.0.0")
    go(tools)
    assert f"{HELM_3.module}@{HELM_3.version}" in HELM_3.ensure().read_text()
    assert f"{HELM_4.module}@{HELM_4.version}" in HELM_4.ensure().read_text()


def test_without_go_it_says_what_is_missing(tools: Path) -> None:
    with pytest.raises(LocalError, match="no Go to build it with; the tests that call it are skipped"):
        GRPCURL.ensure()


def test_a_build_that_fails_is_reported_with_gos_own_reason_and_leaves_nothing(tools: Path) -> None:
    program(tools / "go", "#!/bin/sh\necho 'no route to proxy' >&2; exit 1\n")
    with pytest.raises(LocalError, match="could not be built: no route to proxy"):
        GRPCURL.ensure()
    assert [file.name for file in (tools / "cache/triptych").iterdir()] == ["grpcurl.lock"]


def test_the_command_prints_what_is_here_and_names_what_is_missing(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = helm(tools, "v3.22")
    monkeypatch.setattr(sys, "argv", ["local.programs", "grpcurl", "helm"])
    assert command.main() == 1
    missing = f"grpcurl: not on PATH, and there is no Go to build it with; {GRPCURL.without}\n"
    assert capsys.readouterr() == (f"{mine}\n", missing)
    monkeypatch.setattr(sys, "argv", ["local.programs", "helm5"])
    assert command.main() == 2
