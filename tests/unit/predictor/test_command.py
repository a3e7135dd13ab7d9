"""The command line of Triton: its addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictor.command import command, parse


@pytest.mark.parametrize(
    ("host", "grpc", "metrics"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]", "ipv6:::1"),
        ("[::1]", "[::1]", "ipv6:::1"),
        ("::", "[::]", "ipv6:::"),
        ("localhost", "localhost", "localhost"),
    ],
)
def test_triton_gets_an_ipv6_address_as_each_of_its_servers_reads_it(
    host: str, grpc: str, metrics: str, tmp_path: Path
) -> None:
    line = command(tmp_path, tmp_path, parse(["--model-repository", str(tmp_path), "--host", host]))
    assert f"--grpc-address={grpc}" in line
    assert f"--metrics-address={metrics}" in line
