"""Secrets that change at any moment to anything: the last good certificate stays in use, and nothing waits."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import MAX_PEM_BYTES, UpstreamCredentials, server_context

AUTHORITY = trustme.CA()
OLD, NEW = AUTHORITY.issue_cert("old.test", "a.test"), AUTHORITY.issue_cert("new.test", "a.test")
PASSPHRASE = "word"


def encrypted(certificate: trustme.LeafCert) -> bytes:
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))


CERT, KEY = NEW.cert_chain_pems[0].bytes(), NEW.private_key_pem.bytes()
HOSTILE = {
    "nothing": (b"", b""),
    "no PEM": (b"\x00\xff" * 1000, b"\x00\xff" * 1000),
    "megabytes": (CERT + b"#" * MAX_PEM_BYTES, KEY),
    "megabytes of key": (CERT, KEY + b"\n" * MAX_PEM_BYTES),
    "half a certificate": (CERT[: len(CERT) // 2], KEY),
    "the key of another": (CERT, OLD.private_key_pem.bytes()),
    "a key with a passphrase": (CERT, encrypted(NEW)),
    "the key as certificate": (KEY, CERT),
    "a thousand beginnings": (b"-----BEGIN CERTIFICATE-----\n" * 1000, KEY),
}


class Secret:
    """The files of a certificate, a key and an authority."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key, self.authority = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
        self.write(OLD.cert_chain_pems[0].bytes(), OLD.private_key_pem.bytes())

    def write(self, cert: bytes, key: bytes, authority: bytes = AUTHORITY.cert_pem.bytes()) -> None:
        for file, content in ((self.cert, cert), (self.key, key), (self.authority, authority)):
            file.write_bytes(content)


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    return Secret(tmp_path)


def served_name(context: ssl.SSLContext, caller: trustme.LeafCert = OLD) -> str:
    """First name in the certificate that a new connection gets."""
    client = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())
    caller.configure_cert(client)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname="a.test")
    two = context.wrap_bio(up, down, server_side=True)
    waiting = [one, two]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    names = (one.getpeercert() or {})["subjectAltName"]
    return str(names[0][1])


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("mutual", [False, True])
def test_the_last_good_certificate_is_served(secret: Secret, name: str, mutual: bool) -> None:
    files: dict[str, Any] = {"tls_cert": str(secret.cert), "tls_key": str(secret.key)}
    if mutual:
        files["tls_client_ca"] = str(secret.authority)
    context = server_context(StageSettings(**files))
    assert context is not None
    for _ in range(3):
        secret.write(*HOSTILE[name])
        assert served_name(context) == "old.test"
        secret.write(*HOSTILE[name], authority=b"gone")
        assert served_name(context) == "old.test"
    secret.write(CERT, KEY)
    assert served_name(context) == "new.test"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_secret_at_the_start_is_an_error_with_the_name_of_a_file(secret: Secret, name: str) -> None:
    secret.write(*HOSTILE[name])
    with pytest.raises(OSError, match=r"^cannot read .*; TLS_CERT and its like name it$"):
        server_context(StageSettings(tls_cert=str(secret.cert), tls_key=str(secret.key)))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_secret_of_a_client_is_an_error_and_the_next_good_one_is_used(secret: Secret, name: str) -> None:
    """The channel that is in use stays (`Upstream`)."""
    credentials = UpstreamCredentials(str(secret.authority), str(secret.key), str(secret.cert))
    secret.write(*HOSTILE[name])
    if credentials.is_renewed():
        with pytest.raises(OSError, match=r"cannot use .*ca\.crt"):
            credentials.context()
    secret.write(CERT, KEY)
    assert credentials.is_renewed()
    credentials.context()


def test_nobody_is_asked_for_a_passphrase(secret: Secret) -> None:
    """OpenSSL asked on the terminal, in the handshake of a caller: the event loop stood still."""
    secret.write(CERT, encrypted(NEW))
    program = (
        "import sys\nfrom triptych.runtime.settings import StageSettings\n"
        "from triptych.runtime.tls import server_context\n"
        "server_context(StageSettings(tls_cert=sys.argv[1], tls_key=sys.argv[2]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, secret.cert, secret.key],
        input=f"{PASSPHRASE}\n".encode(),
        capture_output=True,
        start_new_session=True,  # without a terminal it reads standard input
    )
    assert ended.returncode == 1
    assert b"pass phrase" not in ended.stderr + ended.stdout
    assert b"TLS_CERT and its like name it" in ended.stderr
