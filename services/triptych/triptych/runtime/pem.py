"""Certificates of a PEM file, without the text around them."""

from __future__ import annotations

import re
from typing import Final

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATE: Final = re.compile(_BEGIN + rb"[^-]*-----END CERTIFICATE-----")


def certificates(data: bytes) -> bytes:
    """All certificates of a file, each on lines of its own. Raises `ValueError` if there is none, or one is not whole.

    Bundles have names of authorities between the certificates, in any encoding; OpenSSL passes over a certificate
    that does not begin its line, such as one behind a byte-order mark.
    """
    found: list[bytes] = _CERTIFICATE.findall(data)
    if not found:
        raise ValueError("want certificates in PEM, got none")
    if len(found) != (count := data.count(_BEGIN)):
        raise ValueError(f"want whole certificates in PEM, got {len(found)} of {count}")
    return b"\n".join(found) + b"\n"
