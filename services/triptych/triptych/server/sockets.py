"""Listening sockets for all addresses of a host."""

from __future__ import annotations

import socket

from triptych.runtime.addresses import WILDCARD6, resolve

BACKLOG = 1024


def listen(host: str, port: int) -> list[socket.socket]:
    """One socket for each address of `host`, all on one port, which is a free one for 0. Raises `OSError`."""
    bound = list[socket.socket]()
    try:
        for address in resolve(host):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening = socket.socket(family, socket.SOCK_STREAM)
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != WILDCARD6))
            listening.bind((address, port))
            listening.listen(BACKLOG)
            port = int(listening.getsockname()[1])
    except OSError:
        for listening in bound:
            listening.close()
        raise
    return bound
