"""Untrusted files: read if they are regular, within their folder, small enough and UTF-8; else named."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from triptych.contract.errors import ContractError
from triptych.contract.reading.files import FileError, decode, printable, read_text, resolved
from triptych.contract.reading.loader import load_located
from triptych.contract.verification.tree import name_fault, sha256_of, tree_of
from triptych.contract.verification.triton_config import ConfigError, parse_config, read_config

BOM = b"\xef\xbb\xbf"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "m").mkdir(parents=True)
    (tmp_path / "secret").write_text("password: geheim")
    return folder


def test_a_fifo_a_socket_and_a_folder_are_named_and_not_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "fifo")
    monkeypatch.chdir(folder)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for name, kind in (("fifo", "a FIFO"), ("socket", "a socket"), ("m", "a folder")):
            with pytest.raises(FileError, match=f"is {kind}; want a regular file"):
                read_text(folder / name, folder)
    with pytest.raises(FileError, match="is a device"):
        read_text(Path("/dev/zero"))


def test_links_within_the_folder_are_followed_and_links_out_of_it_are_not(folder: Path, tmp_path: Path) -> None:
    (folder / "m" / "real").write_text("text")
    os.symlink("m/real", folder / "inside")
    os.symlink(tmp_path / "secret", folder / "outside")
    os.symlink("../models/m/../../secret", folder / "around")
    os.symlink("loop", folder / "loop")
    assert read_text(folder / "inside", folder) == "text"
    for name in ("outside", "around"):
        with pytest.raises(FileError, match="is a link out of its folder") as caught:
            read_text(folder / name, folder)
        assert "geheim" not in str(caught.value)
    with pytest.raises(FileError, match="symbolic links"):
        read_text(folder / "loop", folder)


def test_a_folder_that_is_itself_a_link_is_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "m" / "real").write_text("text")
    os.symlink(folder, tmp_path / "current")
    assert read_text(tmp_path / "current" / "m" / "real", tmp_path / "current") == "text"


def test_a_folder_whose_name_begins_alike_is_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models-2").mkdir()
    (tmp_path / "models-2" / "x").write_text("text")
    os.symlink(tmp_path / "models-2" / "x", folder / "x")
    with pytest.raises(FileError, match="out of its folder"):
        read_text(folder / "x", folder)


def test_what_is_too_large_has_no_name_or_is_too_long_is_named(folder: Path) -> None:
    (folder / "large").write_bytes(b"x" * 11)
    assert read_text(folder / "large", folder, 11) == "x" * 11
    with pytest.raises(FileError, match="larger than 10 bytes"):
        read_text(folder / "large", folder, 10)
    for name, text in (("gone", "No such file"), ("n" * 300, "name too long"), ("a\0b", "null byte")):
        with pytest.raises(FileError, match=text):
            read_text(folder / name, folder)


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        ("a\nb".encode("utf-16"), 1, "is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0a", 1, "is UTF-16; save it as UTF-8"),
        ("a\nb".encode("utf-16-le"), 1, "holds the control character 0x00; want text"),
        ("a\nfünf".encode("latin-1"), 2, "not UTF-8: byte 0xfc at 3; save it as UTF-8"),
        (b"a\n\nb\0", 3, "holds the control character 0x00; want text"),
        (b"a\n\x1b[2Jb", 2, "holds the control character 0x1b; want text"),
        (b"\x1f\x8b\x08\0gzip", 1, "not UTF-8: byte 0x8b at 1; save it as UTF-8"),
    ],
)
def test_text_that_is_not_utf_8_is_named_with_its_line(data: bytes, line: int, text: str) -> None:
    with pytest.raises(FileError) as caught:
        decode(data)
    assert (str(caught.value), caught.value.line) == (text, line)


def test_a_mark_tabs_and_line_ends_of_windows_are_text() -> None:
    assert decode(BOM + b"a\r\n\tb\xc2\x85") == "a\r\n\tb\x85"


def test_a_configuration_may_begin_with_a_mark_and_end_lines_as_windows_does(folder: Path) -> None:
    path = folder / "m" / "config.pbtxt"
    path.write_bytes(BOM + b'name: "m"\r\n\tbackend: "python"\r\n')
    assert read_config(folder / "m", folder)[1].backend == "python"
    path.write_bytes('name: "m"'.encode("utf-16"))
    with pytest.raises(ConfigError, match=r"config.pbtxt:1: is UTF-16"):
        read_config(folder / "m", folder)


def test_protobufs_error_of_a_configuration_is_clipped() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("x" * 100_000)
    assert len(str(caught.value)) < 400


def test_no_line_of_a_linked_file_is_reported(folder: Path, tmp_path: Path) -> None:
    os.symlink(tmp_path / "secret", folder / "m" / "config.pbtxt")
    os.symlink(tmp_path / "secret", folder / "m" / "contract.yaml")
    with pytest.raises(ConfigError) as config:
        read_config(folder / "m", folder)
    with pytest.raises(ContractError) as contract:
        load_located(folder / "m" / "contract.yaml", folder)
    assert "password" not in f"{config.value}{contract.value}"


def test_names_are_reported_in_printable_characters() -> None:
    assert printable(os.fsdecode(b"a\xff \x1b\n")) == r"a\xff \x1b\x0a"
    assert printable("right\u202eleft") == r"right\u202eleft"
    assert len(printable("n" * 1000)) == 120
    assert name_fault("sales_de") == ""
    assert name_fault(os.fsdecode(b"sales\xff"))
    assert name_fault("new\nline")
    assert "at most 253 bytes" in name_fault("ü" * 127)
    assert "composed Unicode (NFC)" in name_fault("u\u0308ber")  # as macOS writes it
    assert name_fault("\u00fcber") == ""


def test_a_tree_has_every_file_at_any_depth_and_names_what_is_none(folder: Path, tmp_path: Path) -> None:
    version = folder / "m" / "1"
    (version / "onnx" / "deep").mkdir(parents=True)
    (version / "__pycache__").mkdir()
    for name in ("model.py", "onnx/model.onnx", "onnx/deep/data.bin", ".hidden", "__pycache__/model.pyc"):
        (version / name).write_text(name)
    os.mkfifo(version / "fifo")
    os.symlink(tmp_path / "secret", version / "outside")
    os.symlink("gone", version / "nothing")
    os.symlink("..", version / "onnx" / "up")
    found = tree_of(version, os.fspath(folder))
    assert [file.path for file in found.files] == ["model.py", "onnx/deep/data.bin", "onnx/model.onnx"]
    assert found.faults == [
        "fifo: is a FIFO; want regular files",
        "nothing: is a link to nothing",
        "onnx/up: is a link to a folder above it",
        "outside: is a link out of the model repository",
    ]


def test_a_folder_behind_a_link_of_the_kernel_is_followed_as_the_kernel_does(folder: Path, tmp_path: Path) -> None:
    (folder / "m" / "1").mkdir()
    (folder / "m" / "1" / "model.onnx").write_text("m")
    os.symlink(f"/proc/self/root{folder}", tmp_path / "mounted")
    mounted = tmp_path / "mounted"
    assert read_text(mounted / "m" / "1" / "model.onnx", mounted) == "m"
    assert [file.path for file in tree_of(mounted / "m" / "1", resolved(mounted)).files] == ["model.onnx"]


def test_a_tree_is_bounded(folder: Path) -> None:
    for number in range(5):
        (folder / "m" / str(number)).touch()
    assert tree_of(folder / "m", os.fspath(folder), 3).faults == ["holds more than 3 files"]
    deep = folder / "d"
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert any("deeper than 32 folders" in fault for fault in tree_of(folder, os.fspath(folder)).faults)


def test_the_digest_of_a_file_is_that_of_its_content(folder: Path) -> None:
    (folder / "x").write_bytes(b"a" * (3 << 20))
    assert sha256_of(f"{folder}/x").startswith("sha256:")
    assert len(sha256_of(f"{folder}/x")) == 7 + 64
