"""TLS from files: certificates of a server, and certificates and authorities of a client."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc

from triptych.runtime.pem import certificates
from triptych.runtime.settings import StageSettings

MAX_PEM_BYTES: Final = 1 << 20  # as large as a Secret may be; the files are read at every new connection
_NO_PASSPHRASE: Final = ""  # without one, OpenSSL asks for that of an encrypted key, and the loop stands still


class WatchedFiles:
    """Contents of files that are renewed in place, such as those of a Kubernetes Secret."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) if path else None for path in paths]
        self._seen: tuple[bytes | None, ...] = ()

    def read(self) -> tuple[bytes | None, ...]:
        """Contents of the files, None for an empty name. Raises `OSError` with the name of the file."""
        self._seen = tuple(_content(path) if path else None for path in self._paths)
        return self._seen

    def changed_contents(self) -> tuple[bytes | None, ...] | None:
        """Contents of the files if they changed since the last read; None if not, or if one cannot be read."""
        before = self._seen
        try:
            contents = self.read()
        except OSError:
            return None  # in the middle of a renewal: the last contents stay in use
        return None if contents == before else contents


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_PEM_BYTES + 1)
    if len(data) > MAX_PEM_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_PEM_BYTES} bytes", str(path))
    return data


def server_credentials(settings: StageSettings) -> grpc.ServerCredentials | None:
    """Credentials for a server of grpcio; None for plaintext. The files are checked at every new connection."""
    if not settings.tls_cert:
        return None
    files = WatchedFiles(settings.tls_key, settings.tls_cert, settings.tls_client_ca)

    def configuration(contents: Sequence[bytes | None]) -> grpc.ServerCertificateConfiguration:
        key, chain, authority = contents
        return grpc.ssl_server_certificate_configuration([(key or b"", chain or b"")], authority)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        contents = files.changed_contents()
        if contents is None:
            return None
        try:
            _server_context(settings, "h2")
        except OSError:
            return None  # in the middle of a renewal, as in `changed_contents`
        return configuration(contents)

    try:
        first = configuration(files.read())
        _server_context(settings, "h2")  # of a wrong file gRPC says nothing: each handshake would fail
    except OSError as error:
        raise _unreadable(error, settings, "TLS_CERT") from error
    mutual = bool(settings.tls_client_ca)
    return grpc.dynamic_ssl_server_credentials(first, renewed, mutual)  # type: ignore[arg-type]  # None: unchanged


def server_context(settings: StageSettings, alpn: str = "h2") -> ssl.SSLContext | None:
    """TLS context for a server of asyncio; None for plaintext. The files are checked at every new connection."""
    if not settings.tls_cert:
        return None
    files = WatchedFiles(settings.tls_key, settings.tls_cert, settings.tls_client_ca)
    try:
        files.read()
        current = _server_context(settings, alpn)
    except OSError as error:
        raise _unreadable(error, settings, "TLS_CERT") from error

    def renew(tls: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if files.changed_contents() is not None:
            with suppress(OSError):  # in the middle of a renewal: the last contents stay in use
                current = _server_context(settings, alpn)
        tls.context = current

    first = current
    first.sni_callback = renew  # called for every client, also for one without SNI
    return first


def _server_context(settings: StageSettings, alpn: str) -> ssl.SSLContext:
    """TLS context from the files. Raises `OSError`, of which `ssl.SSLError` is a subclass."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # RFC 9113, 9.2.1; OpenSSL before 3.0 allows it to clients
    context.set_alpn_protocols([alpn])
    context.load_cert_chain(settings.tls_cert, settings.tls_key, _NO_PASSPHRASE)
    if settings.tls_client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_authorities(settings.tls_client_ca))
    return context


def _authorities(file: str) -> str:
    """The authorities of a file. Raises `OSError`."""
    try:
        return certificates(Path(file).read_bytes()).decode("ascii")
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), file) from None


class UpstreamCredentials:
    """Authorities that a stage trusts, and the certificate that it presents, for one channel."""

    def __init__(self, authorities: str, key: str = "", certificate: str = "") -> None:
        """The arguments are names of files. Raises `OSError` for one that cannot be read, or a key alone."""
        if bool(key) != bool(certificate):
            raise OSError(errno.EINVAL, "want a certificate and its key, or neither", key or certificate)
        self._authorities, self._key, self._certificate = authorities, key, certificate
        self._files = WatchedFiles(authorities, key, certificate)
        self._contents = self._files.read()

    def is_renewed(self) -> bool:
        """Whether the files changed since the last check."""
        contents = self._files.changed_contents()
        if contents is not None:
            self._contents = contents
        return contents is not None

    def for_grpcio(self) -> grpc.ChannelCredentials:
        """Credentials for a channel of grpcio. Raises `OSError` for files of which it would say nothing, or abort."""
        self.context()
        authorities, key, chain = self._contents
        return grpc.ssl_channel_credentials(certificates(authorities or b""), key, chain)

    def context(self) -> ssl.SSLContext:
        """Context for a connection of asyncio. Raises `OSError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["h2"])
        try:
            context.load_verify_locations(cadata=certificates(self._contents[0] or b"").decode("ascii"))
            if self._certificate:
                context.load_cert_chain(self._certificate, self._key, _NO_PASSPHRASE)
        except (ValueError, ssl.SSLError) as error:  # from a file that is empty or not PEM
            files = ", ".join(filter(None, (self._authorities, self._certificate, self._key)))
            raise OSError(f"cannot use {files}: {error}") from error
        return context


def upstream_credentials(settings: StageSettings) -> UpstreamCredentials | None:
    """Credentials from the settings; None for plaintext."""
    if not settings.upstream_ca:
        return None
    try:
        return UpstreamCredentials(settings.upstream_ca, settings.upstream_key, settings.upstream_cert)
    except OSError as error:
        raise _unreadable(error, settings, "UPSTREAM_CA") from error


def _unreadable(error: OSError, settings: StageSettings, variable: str) -> OSError:
    setting = f"{settings.prefix()}{variable}"
    return OSError(f"cannot read {error.filename or 'certificates'}: {error.strerror}; {setting} and its like name it")
