"""Files, sockets and ports of the stack on one machine are accessible to its user only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from local.stack import LocalStack
from tests.integration.conftest import Caller, MakeStack
from tests.integration.messages import infer_request, outputs_of, sales

MODEL = "sales_forecast_de"
OTHERS = 0o077


@pytest.fixture
def homes(tmp_path: Path) -> dict[str, str]:
    """A cache folder, and a world-accessible folder for temporary files such as /tmp."""
    homes = {"XDG_CACHE_HOME": tmp_path / "cache", "TMPDIR": tmp_path / "tmp"}
    for folder in homes.values():
        folder.mkdir()
        folder.chmod(0o777)
    return {name: str(folder) for name, folder in homes.items()}


def reachable(folder: Path) -> Iterator[Path]:
    """Files in a folder that another user can reach."""
    for path in folder.iterdir():
        if path.is_symlink():
            continue
        if path.is_dir() and path.stat().st_mode & OTHERS:
            yield from reachable(path)
        elif path.stat().st_mode & OTHERS:
            yield path


def is_loopback(text: str) -> bool:
    """Whether an address is of the loopback; Python 3.11 does not recognise `::ffff:127.0.0.1`."""
    address = ip_address(text)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def processes(stack: LocalStack) -> list[psutil.Process]:
    found = [psutil.Process(pid) for pid in stack.pids().values()]
    return [*found, *(child for each in found for child in each.children(recursive=True))]


@pytest.mark.parametrize("server", ["http2", "grpcio"])
def test_no_other_user_reads_a_file_or_reaches_a_socket_of_the_stack(
    make_stack: MakeStack, homes: dict[str, str], server: str
) -> None:
    umask = os.umask(0o022)
    try:
        before = {path.name for path in Path("/dev/shm").iterdir()}
        stack = make_stack(variables={**homes, "PREPROCESS_SERVER": server})
    finally:
        os.umask(umask)
    assert outputs_of(Caller(stack.address("preprocess")).infer(infer_request(MODEL, sales())))["units"]
    for folder in (*map(Path, homes.values()), stack.run_folder.parent):
        assert not [path for path in reachable(folder) if path.parent.name != "served-models"], folder
    port = stack.address("predictor").rpartition(":")[2]
    made = [path for path in Path("/dev/shm").glob(f"triptych-{port}-*") if path.name not in before]
    assert made
    assert not [path for path in made if path.stat().st_mode & OTHERS]
    for process in processes(stack):
        for connection in process.net_connections("unix"):
            address = str(connection.laddr)
            assert not address.startswith(("@", "\0")), f"{process.name()} listens on the abstract socket {address}"
            if address.startswith("/"):
                folder = Path(address).parent
                assert not folder.stat().st_mode & OTHERS, f"{process.name()} has a socket in {folder}"
        listening = [each.laddr for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
        assert not [each for each in listening if not is_loopback(each.ip)], process.name()
