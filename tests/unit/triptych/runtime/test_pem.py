"""Bundles of authorities as others write them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from controller.store.listing import HttpClient
from controller.store.options import StoreOptions
from triptych.runtime.pem import certificates
from triptych.runtime.settings import StageSettings
from triptych.runtime.tls import UpstreamCredentials, server_context

ONE, TWO = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes()
BUNDLES = {
    "plain": ONE + TWO,
    "line ends of Windows": (ONE + TWO).replace(b"\n", b"\r\n"),
    "names in UTF-8": "# Autorité de Zürich\n".encode() + ONE + "# Főtanúsítvány\n".encode() + TWO,
    "names in Latin-1": "# Zürich\n".encode("latin-1") + ONE + TWO,
    "a byte-order mark": b"\xef\xbb\xbf" + ONE + TWO,
    "a byte-order mark between": ONE + b"\xef\xbb\xbf" + TWO,
    "joined without a line end": ONE.rstrip() + TWO.rstrip(),
    "blanks before": b"  " + ONE + b"\t" + TWO,
    "attributes of OpenSSL": b"Bag Attributes\n    friendlyName: a\nsubject=CN=a\n" + ONE + b"\n\n" + TWO,
}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_all_authorities_of_a_bundle_are_trusted(tmp_path: Path, bundle: str) -> None:
    """sslyze#670, rsconnect-python#177: names of authorities between the certificates, in any encoding."""
    file = tmp_path / "ca.pem"
    file.write_bytes(BUNDLES[bundle])
    assert len(UpstreamCredentials(str(file)).context().get_ca_certs()) == 2
    authorities = StoreOptions(authorities=file).read().authorities
    HttpClient(authorities)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authorities.decode("ascii"))
    assert len(context.get_ca_certs()) == 2


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_server_admits_the_clients_of_all_authorities(tmp_path: Path, bundle: str) -> None:
    file, own = tmp_path / "ca.pem", trustme.CA().issue_cert("localhost")
    file.write_bytes(BUNDLES[bundle])
    own.private_key_pem.write_to_path(str(tmp_path / "key"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert"))
    settings = StageSettings(tls_cert=str(tmp_path / "cert"), tls_key=str(tmp_path / "key"), tls_client_ca=str(file))
    context = server_context(settings)
    assert context is not None
    assert len(context.get_ca_certs()) == 2


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "want certificates in PEM, got none"),
        (ssl.PEM_cert_to_DER_cert(ONE.decode()), "got none"),
        (ONE.decode().encode("utf-16"), "got none"),
        (ONE.replace(b"BEGIN", b"BEGIN TRUSTED"), "got none"),
        (ONE + TWO[:-40], "want whole certificates in PEM, got 1 of 2"),
        (ONE[:-40] + TWO, "want whole certificates in PEM, got 1 of 2"),
    ],
)
def test_what_is_no_certificate_or_not_whole_is_named(tmp_path: Path, data: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        certificates(data)
    file = tmp_path / "ca.pem"
    file.write_bytes(data)
    with pytest.raises(OSError, match=text):
        UpstreamCredentials(str(file)).context()
    with pytest.raises(OSError, match=text):
        StoreOptions(authorities=file).read()
