"""Short run of the file fuzzer, and a check that it finds planted faults."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz import files
from tests.fuzz.file_checks import KINDS

RUNS = {"config": 400, "contracts": 150, "documents": 300, "listings": 20_000}  # 5 to 15 s each


@pytest.fixture(autouse=True)
def finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(files, "FOUND", tmp_path / "found")
    return tmp_path / "found"


def test_every_kind_has_a_fuzzer() -> None:
    assert set(files.NAMES) == set(KINDS) == set(RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", files.NAMES)
def test_changed_files_are_taken_or_refused(
    name: str, tmp_path: Path, finds: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("atheris", reason="has no wheel for this platform")
    assert files.run(name, seconds=100, runs=RUNS[name], covered=tmp_path / "covered") == 0
    printed = capfd.readouterr().out
    assert f"{name}: {RUNS[name]} files, coverage " in printed
    assert "MiB after the corpus" in printed
    assert list(finds.iterdir()) == []
    assert len(list((tmp_path / "covered").iterdir())) > len(list(KINDS[name].seeds())), "coverage has guided it"


def test_a_finding_is_saved_and_reported(finds: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The child process ends as libFuzzer does at a finding, or is killed."""
    assert files.summary("config", 77, "#9\tINITED cov: 1 ft: 1 corp: 1/9b exec/s: 0 rss: 9Mb\nValueError: b\n") == 1
    assert "ValueError: b" in capfd.readouterr().out
    assert files.summary("config", -9, "") == 1


def test_a_file_that_takes_too_much_cpu_is_a_find_and_one_that_waits_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_S", 0.05)
    files.timed([lambda _: time.sleep(0.1)])(b"")

    def work(_: bytes) -> None:
        until_s = time.thread_time() + 0.1
        while time.thread_time() < until_s:
            pass

    with pytest.raises(AssertionError, match="took 0.1 s of CPU"):
        files.timed([work])(b"")


def test_memory_that_grows_is_a_find() -> None:
    lines = [
        "#9\tINITED cov: 1 ft: 1 corp: 1/9b exec/s: 0 rss: 100Mb",
        "#99\tDONE   cov: 2 ft: 1 corp: 1/9b lim: 4 rss: {}Mb",
    ]
    for memory, code in ((100, 0), (164, 0), (165, 1)):
        assert files.summary("config", 0, "\n".join(lines).format(memory)) == code


def test_what_triton_alone_refuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import sys, types
from tests.fuzz import text_format
text_format.check_as_triton(b'name: "right"')
text_format.configuration = lambda data: (data.decode(), None)
text_format.check_as_triton(b'name: "a\\\\s"')
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "AssertionError: Triton refuses what we take: input:1:10: Invalid escape sequence" in ran.stderr
