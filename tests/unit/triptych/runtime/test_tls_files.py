"""TLS files that cannot be used are a sentence: gRPC aborts the process for some, and says nothing of others."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
import trustme

from tests.unit.triptych.runtime.test_hostile_secrets import encrypted
from triptych.client.transport import Transport
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import UpstreamCredentials, server_credentials
from triptych_cli.controller_client import TlsCredentials
from triptych_cli.tls_options import credentials as of_options
from triptych_cli.top.command import parser

AUTHORITY = trustme.CA()
OWN, OTHER = AUTHORITY.issue_cert("a.test"), AUTHORITY.issue_cert("a.test")
CA, CERT, KEY = AUTHORITY.cert_pem.bytes(), OWN.cert_chain_pems[0].bytes(), OWN.private_key_pem.bytes()
WRONG = {
    "a certificate without its key": (CA, CERT, None),
    "a key without its certificate": (CA, None, KEY),
    "the key of another": (CA, CERT, OTHER.private_key_pem.bytes()),
    "a key with a passphrase": (CA, CERT, encrypted(OWN)),
    "a key that is none": (CA, CERT, b"key"),
    "an empty key": (CA, CERT, b""),
    "an empty certificate": (CA, b"", KEY),
    "certificate and key exchanged": (CA, KEY, CERT),
    "half a certificate": (CA, CERT[: len(CERT) // 2], KEY),
    "no authority": (b"", CERT, KEY),
    "an authority that is none": (b"authority", None, None),
}
RIGHT = {
    "an authority alone": (CA, None, None),
    "all of them": (CA, CERT, KEY),
    "line ends of Windows": tuple(each.replace(b"\n", b"\r\n") for each in (CA, CERT, KEY)),
    "a byte-order mark": (b"\xef\xbb\xbf" + CA, CERT, KEY),
}


def write(folder: Path, *contents: bytes | None) -> list[str]:
    """Names of the files of authority, certificate and key; '' for one that is left out."""
    names = []
    for name, content in zip(("ca.crt", "tls.crt", "tls.key"), contents, strict=True):
        if content is not None:
            (folder / name).write_bytes(content)
        names.append("" if content is None else str(folder / name))
    return names


def read(ca: str, certificate: str, key: str) -> TlsCredentials:
    return TlsCredentials.read(ca, certificate, key, "a.test")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_of_a_command_are_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=f"{re.escape(str(tmp_path))}.*; --ca, --cert and --key name files$"):
        read(*write(tmp_path, *WRONG[name]))


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("transport", ["grpcio", "http2"])
async def test_wrong_files_of_a_stage_are_a_sentence(tmp_path: Path, transport: str, name: str) -> None:
    ca, certificate, key = write(tmp_path, *WRONG[name])
    made = Transport.of(StageSettings(transport=transport))
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        made.channel("127.0.0.1:1", UpstreamCredentials(ca, key, certificate))


@pytest.mark.parametrize(
    "name", [name for name, (_, cert, key) in WRONG.items() if cert is not None and key is not None]
)
def test_wrong_files_of_a_server_of_grpcio_are_a_sentence(tmp_path: Path, name: str) -> None:
    ca, certificate, key = write(tmp_path, *WRONG[name])
    with pytest.raises(OSError, match="TLS_CERT and its like name it"):
        server_credentials(StageSettings(tls_cert=certificate, tls_key=key, tls_client_ca=ca))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot read .*ca.crt: No such file or directory; --ca"):
        TlsCredentials.read(str(tmp_path / "ca.crt"), "", "", "")
    with pytest.raises(OSError, match=r"cannot read .*: Is a directory; --ca"):
        TlsCredentials.read(str(tmp_path), "", "", "")


def test_a_certificate_without_authorities_is_no_silent_plaintext(tmp_path: Path) -> None:
    _, certificate, key = write(tmp_path, *RIGHT["all of them"])
    with pytest.raises(OSError, match="--cert and --key want --ca beside them"):
        of_options(parser().parse_args(["--cert", certificate, "--key", key]))


@pytest.mark.parametrize("name", RIGHT)
def test_a_call_with_right_files_is_answered(tmp_path: Path, name: str) -> None:
    server = grpc.server(None)  # type: ignore[arg-type]  # it has no method, so no thread
    served = grpc.ssl_server_credentials([(KEY, CERT)], CA, require_client_auth=RIGHT[name][1] is not None)
    port = server.add_secure_port("127.0.0.1:0", served)
    server.start()
    try:
        with read(*write(tmp_path, *RIGHT[name])).channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
    finally:
        server.stop(None)
