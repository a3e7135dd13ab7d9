"""TLS from files: the certificates of a server, and what a client trusts and shows."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import grpc

from triptych.runtime.settings import StageSettings


class Files:
    """Files that are renewed in place, such as those of a Kubernetes Secret."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) if path else None for path in paths]
        self._seen: tuple[bytes | None, ...] = ()

    def read(self) -> tuple[bytes | None, ...]:
        """Their contents, None for a name that is empty. Raises `OSError` with the file's name."""
        self._seen = tuple(path.read_bytes() if path else None for path in self._paths)
        return self._seen

    def news(self) -> tuple[bytes | None, ...] | None:
        """Their contents if they are others than last time, and None if not or while one cannot be read."""
        before = self._seen
        try:
            contents = self.read()
        except OSError:
            return None  # in the middle of a renewal; what was read before holds
        return None if contents == before else contents


def server_credentials(settings: StageSettings) -> grpc.ServerCredentials | None:
    """For grpc; None means plaintext. The files are looked at with every new connection."""
    if not settings.tls_cert:
        return None
    files = Files(settings.tls_key, settings.tls_cert, settings.tls_client_ca)

    def configuration(contents: Sequence[bytes | None]) -> grpc.ServerCertificateConfiguration:
        key, chain, authority = contents
        return grpc.ssl_server_certificate_configuration([(key or b"", chain or b"")], authority)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        contents = files.news()
        return None if contents is None else configuration(contents)

    try:
        first = configuration(files.read())
    except OSError as error:
        raise _unreadable(error, settings, "TLS_CERT") from error
    mutual = bool(settings.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(first, renewed, mutual)  # type: ignore[arg-type]  # None: no news


def server_context(settings: StageSettings) -> ssl.SSLContext | None:
    """For asyncio; None means plaintext. The files are looked at with every new connection."""
    if not settings.tls_cert:
        return None
    files = Files(settings.tls_key, settings.tls_cert, settings.tls_client_ca)
    try:
        files.read()
        current = _server_context(settings)
    except OSError as error:
        raise _unreadable(error, settings, "TLS_CERT") from error

    def renew(tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if files.news() is not None:
            with suppress(OSError):  # in the middle of a renewal; what was read before holds
                current = _server_context(settings)
        tls.context = current

    first = current
    first.sni_callback = renew  # is called for every client, also without a name
    return first


def _server_context(settings: StageSettings) -> ssl.SSLContext:
    """Raises `OSError`, of which `ssl.SSLError` is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    if settings.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(settings.tls_client_ca)
    return context


class UpstreamCredentials:
    """What a stage trusts when it calls another, and shows to it, for one channel."""

    def __init__(self, authorities: str, key: str = "", certificate: str = "") -> None:
        """Takes names of files; raises `OSError` for one that cannot be read."""
        self._authorities, self._key, self._certificate = authorities, key, certificate
        self._files = Files(authorities, key, certificate)
        self._contents = self._files.read()

    def is_renewed(self) -> bool:
        """Whether the files are others than last time."""
        contents = self._files.news()
        if contents is not None:
            self._contents = contents
        return contents is not None

    def for_grpcio(self) -> grpc.ChannelCredentials:
        """Credentials for a channel of grpcio."""
        return grpc.ssl_channel_credentials(*self._contents)

    def context(self) -> ssl.SSLContext:
        """Context for a connection of asyncio. Raises `OSError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        try:
            context.load_verify_locations(cadata=(self._contents[0] or b"").decode("ascii"))
            if self._certificate:
                context.load_cert_chain(self._certificate, self._key)
        except (ValueError, ssl.SSLError) as error:  # of a file that is empty, or no PEM
            files = ", ".join(filter(None, (self._authorities, self._certificate, self._key)))
            raise OSError(f"cannot use {files}: {error}") from error
        return context


def upstream_credentials(settings: StageSettings) -> UpstreamCredentials | None:
    """None means plaintext."""
    if not settings.upstream_ca:
        return None
    try:
        return UpstreamCredentials(settings.upstream_ca, settings.upstream_key, settings.upstream_cert)
    except OSError as error:
        raise _unreadable(error, settings, "UPSTREAM_CA") from error


def _unreadable(error: OSError, settings: StageSettings, variable: str) -> OSError:
    setting = f"{settings.prefix()}{variable}"
    return OSError(f"cannot read {error.filename or 'certificates'}: {error.strerror}; {setting} and its like name it")
