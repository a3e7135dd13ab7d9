"""Addresses in settings: of listeners and of upstreams. IPv6 addresses are in brackets.

An address for a call is `host:port`, as gRPC takes it: `postprocess:9001`, `10.0.0.7:9001`, `[fd00::7]:9001`.
`dns:///host:port` is the same in gRPC's longer form. `ipv4:` or `ipv6:` starts a list, separated by commas.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator

DNS = "dns:///"
_FAMILIES: dict[str, type[IPv4Address | IPv6Address]] = {"ipv4": IPv4Address, "ipv6": IPv6Address}  # schemes of lists
WILDCARD6 = "::"  # all addresses of both families
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def join(host: str, port: int | str) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of an address for a call, the host without brackets. Raises `ValueError` with a sentence."""
    return _parts(address, bare=False)


def address_argument(address: str) -> str:
    """Check an address for a call, as a type for argparse. Raises `ValueError` with a sentence."""
    try:
        split(address)
    except ValueError as error:
        raise ValueError(f"{error}, got '{address}'") from None
    return address


def is_numeric(address: str) -> bool:
    """Whether an address for a call is one IP address: neither a name nor a list."""
    try:
        return _is_ip(split(address)[0])
    except ValueError:
        return False


def endpoints(address: str) -> list[tuple[str, int]]:
    """Hosts and ports of an address for a call: one, or those of a list."""
    scheme, _, several = address.partition(":")
    return [split(each) for each in several.split(",")] if scheme in _FAMILIES else [split(address)]


def resolve(host: str) -> list[str]:
    """Addresses of a host to listen on: an IP address itself, or those of a name such as `localhost`.

    Raises `OSError`.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


def _listening_host(host: str) -> str:
    plain = host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host
    if "%" in plain or not (_is_ip(plain) or _is_name(plain)):
        raise ValueError("want an IP address (without a zone) or a host name, such as 127.0.0.1, ::1, or :: for all")
    return plain


def checked_address(address: str) -> str:
    """Check an address for a call, or a list of them. Raises `ValueError` with a sentence."""
    scheme, _, several = address.partition(":")
    if scheme not in _FAMILIES:
        split(address)
        return address
    for each in several.split(","):
        if not _is_of(_FAMILIES[scheme], split(each)[0]):
            raise ValueError(f"want a list of {scheme} addresses, each with its port")
    return address


def _collector(endpoint: str) -> str:
    if endpoint:
        split(endpoint.removeprefix("http://").removesuffix("/"))
    return endpoint


def _called_of_pod(address: str) -> str:
    if not address:
        return ""
    dns = DNS if address.startswith(DNS) else ""
    return dns + join(*_parts(address, bare=True))


# Host of a listener; brackets are removed.
ListeningHost = Annotated[str, AfterValidator(_listening_host)]
# Address of an upstream.
Address = Annotated[str, AfterValidator(checked_address)]
# Destination of spans: an address, or a URL in the form of OpenTelemetry. Empty: none.
Collector = Annotated[str, AfterValidator(_collector)]
# Address made from a pod IP, which Kubernetes writes without brackets: they are added. Empty: none.
PodAddress = Annotated[str, AfterValidator(_called_of_pod)]


def pod_address(address: str) -> str:
    """Address with brackets added where needed. Raises `ValueError` with a sentence."""
    return _called_of_pod(address)


def _parts(address: str, *, bare: bool) -> tuple[str, int]:
    text = address.removeprefix(DNS)
    host, _, port = text.rpartition(":")
    wanted = "want host:port, an IPv6 address in brackets as in [::1]:9001"
    if "://" in text or text.startswith(("unix:", "ipv4:", "ipv6:", "dns:", "/")):
        raise ValueError(f"{wanted}, without a scheme")
    if "%" in host:
        raise ValueError(f"{wanted}, without a zone")
    if not host or not (port.isascii() and port.isdecimal()) or (_is_ip(text) and not bare):
        raise ValueError(wanted)
    if not 0 < int(port) < 65536:
        raise ValueError("want host:port with a port from 1 to 65535")
    if host[0] == "[" and host[-1] == "]" and _is_ip6(host[1:-1]):
        return host[1:-1], int(port)
    if (bare and _is_ip6(host)) or (":" not in host and (_is_ip(host) or _is_name(host))):
        return host, int(port)
    raise ValueError(wanted)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_ip6(host: str) -> bool:
    return _is_of(IPv6Address, host)


def _is_of(family: type[IPv4Address | IPv6Address], host: str) -> bool:
    return _is_ip(host) and isinstance(ip_address(host), family)


def _is_name(host: str) -> bool:
    return bool(_NAME.fullmatch(host)) and not re.fullmatch(r"[0-9.]+", host)
