"""TLS from files: the certificates of a server, and what a client trusts and shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc

from triptych.settings import StageSettings


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


class UpstreamCredentials:
    """What a stage trusts when it calls another, and shows to it, for one channel."""

    def __init__(self, files: Files) -> None:
        """Raises `OSError` for a file that cannot be read."""
        self._files = files
        self.first = grpc.ssl_channel_credentials(*files.read())

    def news(self) -> grpc.ChannelCredentials | None:
        """Others than last time, None while the files are the same."""
        contents = self._files.news()
        return None if contents is None else grpc.ssl_channel_credentials(*contents)


def upstream_credentials(settings: StageSettings) -> UpstreamCredentials | None:
    """None means plaintext."""
    if not settings.upstream_ca:
        return None
    try:
        return UpstreamCredentials(Files(settings.upstream_ca, settings.upstream_key, settings.upstream_cert))
    except OSError as error:
        raise _unreadable(error, settings, "UPSTREAM_CA") from error


def _unreadable(error: OSError, settings: StageSettings, variable: str) -> OSError:
    setting = f"{settings.prefix()}{variable}"
    return OSError(f"cannot read {error.filename}: {error.strerror}; {setting} and its like name it")
