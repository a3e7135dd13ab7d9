"""A real S3 store on this machine: one process of the Versity gateway over a folder per test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import obstore
import pytest
import trustme
from obstore.store import S3Store

KEYS = {"AWS_ACCESS_KEY_ID": "triptych", "AWS_SECRET_ACCESS_KEY": "triptych-models", "AWS_REGION": "us-east-1"}
START_S = 30.0
WHERE = "VERSITYGW names the program; go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 makes it"


@dataclass
class Gateway:
    """The bucket `models` of a store at `endpoint`; its objects are files in `folder`."""

    endpoint: str
    folder: Path
    command: list[str]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the process, and wait until it listens."""
        self._process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(int(self.endpoint.rpartition(":")[2]), self._process)

    def kill(self) -> None:
        """End the process at once; the objects stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_S)

    def create_account(self, name: str) -> dict[str, str]:
        """An account that may read and write; its variables."""
        self._admin("create-user", "--access", name, "--secret", f"secret of {name}", "--role", "admin")
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"secret of {name}"}

    def delete_account(self, name: str) -> None:
        self._admin("delete-user", "--access", name)

    def _admin(self, *arguments: str) -> None:
        keys = ("--access", KEYS["AWS_ACCESS_KEY_ID"], "--secret", KEYS["AWS_SECRET_ACCESS_KEY"])
        command = [self.command[0], "admin", "--endpoint-url", self.endpoint, "--allow-insecure", *keys, *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=START_S)

    @property
    def variables(self) -> dict[str, str]:
        return KEYS | {"AWS_ENDPOINT_URL": self.endpoint}

    @property
    def store(self) -> S3Store:
        return S3Store("models", endpoint=self.endpoint, client_options={"allow_http": True})

    def put_raw(self, key: str, content: bytes = b"") -> None:
        """Put an object under a key that obstore refuses."""
        url = f"{self.endpoint}/models/{quote(key)}#"
        signer = S3Store("models", endpoint=url, virtual_hosted_style_request=True, client_options={"allow_http": True})
        signed = obstore.sign(signer, "PUT", "put", timedelta(minutes=1))
        with urlopen(Request(signed, data=content, method="PUT"), timeout=START_S):
            pass


@contextmanager
def s3_gateway(
    folder: Path, monkeypatch: pytest.MonkeyPatch, certificate: trustme.LeafCert | None = None
) -> Iterator[Gateway]:
    """Run the gateway and set its environment variables. Skips the test if the program is missing."""
    program = os.environ.get("VERSITYGW") or shutil.which("versitygw")
    if not program:
        pytest.skip(f"needs a store of S3: {WHERE}")
    (folder / "models").mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scheme, tls = ("https", _tls_options(folder, certificate)) if certificate else ("http", [])
    access = ["--access", KEYS["AWS_ACCESS_KEY_ID"], "--secret", KEYS["AWS_SECRET_ACCESS_KEY"]]
    accounts = folder.with_name(f"{folder.name}-accounts")
    accounts.mkdir()
    options = ["--quiet", "--iam-dir", str(accounts), "--iam-cache-disable", *access, *tls]
    command = [program, "--port", f"127.0.0.1:{port}", *options, "posix", str(folder)]
    gateway = Gateway(f"{scheme}://127.0.0.1:{port}", folder / "models", command)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in gateway.variables.items():
        monkeypatch.setenv(name, value)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.kill()


def _tls_options(folder: Path, certificate: trustme.LeafCert) -> list[str]:
    """Options with the files of a certificate, beside the folder of the store."""
    certificates, key = folder.with_name("store.crt"), folder.with_name("store.key")
    certificates.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return ["--cert", str(certificates), "--key", str(key)]


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the gateway does not listen on port {port}; it ended with {process.poll()}")
