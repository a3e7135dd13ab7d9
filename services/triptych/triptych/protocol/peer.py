"""Identity of a caller, for limits by caller: its host, and the names in its certificate."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import unquote


def peer_host(peer: str) -> str:
    """Host of a gRPC peer such as `ipv4:10.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; the kind for any other peer.

    An IPv6 address becomes its /64 network, because one host has all addresses of it.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return kind
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, 64), strict=False))
    return host


def certificate_names(certificate: Mapping[str, Any]) -> frozenset[str]:
    """Subject alternative names and common name of a verified certificate, in the form of `SSLSocket.getpeercert`.

    Empty for a caller without a certificate.
    """
    alternative = (name for _, name in certificate.get("subjectAltName", ()))
    common = (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    return frozenset((*alternative, *common))
