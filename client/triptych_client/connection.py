"""Connections to a server: TLS, metadata, and the errors of gRPC as those of the client."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from triptych.protocol.status import STAGE_ERROR, pushback_s
from triptych_client.errors import InvalidOptions, RequestFailed

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # the server's limit counts
    ("grpc.lb_policy_name", "round_robin"),  # over all addresses that the name has
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)

Metadata = Mapping[str, str] | Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Tls:
    """PEM files: trusted authorities ('': those of the system), and a certificate of one's own with its key.

    `server_name` is the name in the server's certificate, if it differs from the address.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises `InvalidOptions` for files that cannot be used, with which gRPC would abort the process."""
        if bool(self.certificate) != bool(self.key):
            raise InvalidOptions("tls: want a certificate and its key, or neither")
        files = [name for name in (self.ca, self.key, self.certificate) if name]
        try:
            self._check()
            ca, key, certificate = (
                Path(name).read_bytes() if name else None for name in (self.ca, self.key, self.certificate)
            )
        except OSError as error:  # of `ssl` too
            raise InvalidOptions(f"tls: cannot use {', '.join(files)}: {error.strerror or error}") from None
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def _check(self) -> None:
        """Raises `OSError` for files that are not PEM, or a key that is not the certificate's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca:
            context.load_verify_locations(self.ca)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key, password="")  # else OpenSSL asks for it


def open_channel(address: str, tls: Tls | None, max_answer_bytes: int) -> grpc.Channel:
    """A channel to `host:port`, or to any target of gRPC. Raises `InvalidOptions` for files that cannot be used."""
    options = [*_OPTIONS, ("grpc.max_receive_message_length", max_answer_bytes)]
    if tls is None:
        return grpc.insecure_channel(address, options)
    name = [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
    return grpc.secure_channel(address, tls.credentials(), options + name)


def metadata_of(metadata: Metadata | None) -> tuple[tuple[str, str], ...]:
    """Metadata of one call."""
    given = metadata() if callable(metadata) else (metadata or {})
    return tuple(given.items())


def failure_of(error: Any, address: str) -> RequestFailed:
    """A `grpc.RpcError` of a call to an address."""
    trailers = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
    code, text = error.code().name, error.details() or ""
    if STAGE_ERROR in trailers:
        return RequestFailed(code, text, pushback_s(trailers))
    return RequestFailed(code, f"{address}: {text}", pushback_s(trailers), is_of_connection=True)
