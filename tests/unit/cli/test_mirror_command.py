"""`triptych mirror`: its output, and its exit status."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from controller.store.download_progress import DownloadProgress
from controller.store.mirror import Mirror, MirrorChange
from tests.fakes.memory_store import InMemoryStore, contents
from tests.model_folders import model_file, publish
from triptych_cli.__main__ import COMMANDS
from triptych_cli.byte_counts import format_bytes
from triptych_cli.mirror import command
from triptych_cli.mirror.command import DownloadReporter, Stopped, run


@pytest.fixture
def there(tmp_path: Path) -> Path:
    publish(tmp_path / "there", "sales_de")
    return tmp_path / "there"


def test_once_synchronizes_the_folder_and_reports_it(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    assert command.main([f"file://{there}", str(here), "--once"]) == 0
    assert contents(here) == contents(there)
    assert f"mirror: {here} is in sync with file://{there}: 3 files downloaded, 0 removed\n" in capsys.readouterr().err


def test_contracts_only_is_what_the_controller_needs(there: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    assert command.main([f"file://{there}", str(here), "--once", "--contracts"]) == 0
    assert (here / "sales_de/1/model.onnx").read_bytes() == bytes(len(model_file()))
    assert (here / "sales_de/config.pbtxt").read_bytes() == (there / "sales_de/config.pbtxt").read_bytes()


def test_once_ends_with_1_and_a_reason_when_the_store_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["file:///nowhere", str(tmp_path / "here"), "--once"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("mirror: file:///nowhere: cannot be read: /nowhere does not answer")
    assert said.endswith("want a folder that can be read; the folder keeps its content\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["models", "here"], "argument URI: want s3://bucket/prefix, .*, got 'models'"),
        (["s3://models/eu"], "arguments are required: FOLDER"),
        (["s3://models/eu", "here", "--every", "0"], "argument --every: want a time above 0"),
        (["s3://models/eu", "here", "--once", "--every", "5s"], "--every: not allowed with argument --once"),
        (["s3://models/eu", "here", "--whole", "--contracts"], "--contracts: not allowed with argument --whole"),
    ],
)
def test_wrong_options_end_with_2_and_what_is_wanted(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert re.search(said, capsys.readouterr().err)


def test_help_shows_how_it_is_used_and_the_command_line_lists_it() -> None:
    assert "triptych mirror s3://models/eu /mirror/models" in command.parser().format_help()
    assert "mirror" in COMMANDS


class Looks(Mirror):
    """End the command after so many scans, each of which can be prepared."""

    def __init__(self, store: InMemoryStore, folder: Path, stop: threading.Event, looks: int) -> None:
        super().__init__(store, folder, whole=True)
        self.memory, self.stop, self.looks = store, stop, looks

    def refresh(self) -> MirrorChange:
        self.looks -= 1
        if not self.looks:
            self.stop.set()
        self.memory.answers_left = None if self.looks in (4, 0) else 0
        return super().refresh()


def test_an_unreachable_store_is_reported_once_tried_again_and_reported_when_it_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, stop = InMemoryStore(), threading.Event()
    store.put("sales_de/config.pbtxt")
    folder = tmp_path / "here"
    assert run(Looks(store, folder, stop, 5), DownloadReporter(stop.is_set), stop, every_s=0.001) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"mirror: {folder} is in sync with s3://models/eu: 1 files downloaded, 0 removed",
        "mirror: s3://models/eu: cannot be read: memory does not answer; the folder keeps its content",
        f"mirror: {folder} is in sync with s3://models/eu: 0 files downloaded, 0 removed",
    ]


def test_a_long_download_says_how_far_it_is_but_not_at_every_chunk(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    reporter = DownloadReporter(lambda: False, lambda: now_s)
    for now_s in (1.0, 4.9, 5.0, 5.1, 9.9, 10.1):
        reporter.progress(DownloadProgress(3, 40, int(now_s * 2**20), 3 * 2**30))
    assert capsys.readouterr().err.splitlines() == [
        "mirror: 3 of 40 files, 5.0 MiB of 3.0 GiB",
        "mirror: 3 of 40 files, 10.1 MiB of 3.0 GiB",
    ]


def test_ending_the_command_ends_a_download_and_leaves_nothing_half(tmp_path: Path) -> None:
    store, stop = InMemoryStore(), threading.Event()
    store.put("sales_de/1/model.onnx", b"x" * 9_000_000)
    received: list[int] = []

    def on_progress(progress: DownloadProgress) -> None:
        received.append(progress.received_bytes)
        if len(received) == 2:
            stop.set()
        DownloadReporter(stop.is_set).progress(progress)

    folder = tmp_path / "here"
    mirror = Mirror(store, folder, whole=True, on_progress=on_progress)
    assert run(mirror, DownloadReporter(stop.is_set), stop, every_s=60) == 0
    assert len(received) == 2
    assert contents(tmp_path / "here") == {}
    assert not list((tmp_path / ".here.mirror").glob("draft/**/*"))
    with pytest.raises(Stopped):
        on_progress(DownloadProgress(0, 1, 0, 1))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 * 2**50, "5120.0 TiB")]
)
def test_sizes_are_for_readers(count: int, text: str) -> None:
    assert format_bytes(count) == text
