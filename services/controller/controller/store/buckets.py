"""Connections to a folder, to S3 and to GCS, by obstore."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError, InvalidPathError
from obstore.store import GCSStore, LocalStore, S3Store

from controller.store import listing
from controller.store.listing import HttpClient, Item
from controller.store.objects import ListPages, Location, Page, Store, StoreConnection, obstore_pages, reason_of
from controller.store.options import StoreConfiguration, StoreOptions
from controller.store.uri import split

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

# A fault is reported within seconds, and the next scan retries. A large file may take long, but must not stall.
CONNECT_S, SILENCE_S, WHOLE_S, RETRY_S, RETRIES = 5, 30, 3600, 10, 3
SIGNED_FOR = timedelta(minutes=5)
SIGNERS = 16  # kept for as many first pages and later ones
S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
# Variables of a Secret that obstore knows; obstore refuses others. Endpoints are passed by themselves.
S3_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SKIP_SIGNATURE",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_REQUEST_PAYER",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_STS_ENDPOINT",
)
GCS_VARIABLES = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
)
EVERYTHING = "*,0.0.0.0/0,::/0"  # names, and addresses of both families
# Services that give keys to a pod or machine. They are on the node.
NEVER_BY_PROXY = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32,metadata.google.internal,metadata"


def open_store(uri: str, options: StoreOptions | None = None) -> Store:
    """The store of a URI, configured by the usual variables and `options`. Makes no call yet. Raises `ValueError`."""
    scheme, bucket, path = split(uri)
    locations: dict[str, Location] = {
        "file": FolderLocation(Path("/") / path),
        "s3": S3Location(bucket, path),
        "gs": GcsLocation(bucket, path),
    }
    return Store(uri, locations[scheme], options)


@dataclass(frozen=True)
class FolderLocation:
    """A folder of this machine."""

    folder: Path
    remedy: str = "want a folder that can be read"

    def endpoint(self, _configuration: StoreConfiguration) -> str:
        return str(self.folder)

    def connect(self, _configuration: StoreConfiguration) -> StoreConnection:
        return StoreConnection(LocalStore(self.folder), partial(_walk, self.folder), is_ordered=False)


@dataclass(frozen=True)
class S3Location:
    """A folder of a bucket with S3's API."""

    bucket: str
    path: str
    remedy: str = "AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY configure it"

    def endpoint(self, configuration: StoreConfiguration) -> str:
        region = configuration.variable("AWS_REGION", "AWS_DEFAULT_REGION") or "us-east-1"
        return configuration.variable(*S3_ENDPOINTS) or f"https://s3.{region}.amazonaws.com"

    def connect(self, configuration: StoreConfiguration) -> StoreConnection:
        where, options = self.endpoint(configuration), _client(self.endpoint(configuration), configuration)
        client, own = _http_client(configuration), configuration.of_secret(S3_VARIABLES)
        is_named = bool(configuration.variable(*S3_ENDPOINTS))
        virtual = is_named and configuration.is_on("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")  # it contains the bucket's name

        @lru_cache(SIGNERS)
        def signer(url: str) -> S3Store:
            """Keep it, for it has the keys of a role that it assumed. The query of a first page is always the same."""
            config: Any = own | {"aws_endpoint_url_s3": url, "aws_virtual_hosted_style_request": "true"}
            return S3Store(self.bucket, config=config, client_options=options)

        def signed(query: str) -> str:
            """Sign a query. It is passed as the end of the endpoint; the path that obstore appends is a fragment."""
            url = f"{where.rstrip('/')}/{'' if virtual else quote(self.bucket)}?{query}#"
            if configuration.is_on("AWS_SKIP_SIGNATURE"):
                return url
            return obstore.sign(signer(url), "GET", "list", SIGNED_FOR)

        config: Any = own | ({"aws_endpoint_url_s3": where} if is_named else {})
        objects = S3Store(
            self.bucket, prefix=self.path or None, config=config, client_options=options, retry_config=_retry()
        )
        return StoreConnection(objects, _below(self.path, signed, client))


@dataclass(frozen=True)
class GcsLocation:
    """A folder of a bucket of Google Cloud Storage."""

    bucket: str
    path: str
    remedy: str = "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT_KEY has the key of who asks"

    def endpoint(self, configuration: StoreConfiguration) -> str:
        return configuration.variable("GOOGLE_BASE_URL") or "https://storage.googleapis.com"

    def connect(self, configuration: StoreConfiguration) -> StoreConnection:
        where, options = self.endpoint(configuration), _client(self.endpoint(configuration), configuration)
        client, own = _http_client(configuration), configuration.of_secret(GCS_VARIABLES)

        def signed(query: str) -> str:
            url = f"{where.rstrip('/')}/{quote(self.bucket)}?{query}#"
            if configuration.is_on("GOOGLE_SKIP_SIGNATURE"):
                return url
            config: Any = own | {"google_base_url": url}
            return obstore.sign(GCSStore(self.bucket, config=config, client_options=options), "GET", "list", SIGNED_FOR)

        config: Any = own | ({"google_base_url": where} if configuration.variable("GOOGLE_BASE_URL") else {})
        objects = GCSStore(
            self.bucket, prefix=self.path or None, config=config, client_options=options, retry_config=_retry()
        )
        by_url = _below(self.path, signed, client)

        def pages(below: str, after: str) -> Iterator[Page]:
            """Pages by obstore; by a signed URL only if obstore fails, for it needs a key or the right to sign."""
            try:
                yield from obstore_pages(objects, below, after)
            except InvalidPathError as error:
                try:
                    yield from by_url(below, after)
                except BaseError:
                    raise ValueError(f"{reason_of(error)}; delete it, or let the account sign URLs") from error

        return StoreConnection(objects, pages)


def _below(folder: str, sign: listing.Sign, client: HttpClient) -> ListPages:
    """List a folder of the bucket, with paths relative to it."""
    prefix = f"{folder}/" if folder else ""

    def pages(below: str, after: str) -> Iterator[Page]:
        for page in listing.pages(sign, prefix + below, client, after and prefix + after):
            yield [replace(item, key=item.key.removeprefix(prefix)) for item in page]

    return pages


def _walk(root: Path, below: str, _after: str) -> Iterator[Page]:
    """List the files of a folder, in any order. Raises `OSError`.

    A subfolder that cannot be listed is an item without a size.
    """
    os.scandir(root).close()
    lost: list[OSError] = []
    for folder, _, names in os.walk(root, onerror=lost.append):
        items = [_file(root, Path(folder, name)) for name in names]
        yield [item for item in items if item.key.startswith(below)]
    yield [Item(Path(error.filename).relative_to(root).as_posix(), -1, 0, "") for error in lost]


def _file(root: Path, path: Path) -> Item:
    key = path.relative_to(root).as_posix()
    try:
        status = path.stat()
    except OSError:  # a link to nothing, or deleted at this moment
        return Item(key, -1, 0, "")
    return Item(key, status.st_size if path.is_file() else -1, status.st_mtime_ns // 1000 * 1000, "")


def _http_client(configuration: StoreConfiguration) -> HttpClient:
    return HttpClient(configuration.authorities, configuration.proxy)


def _client(endpoint: str, configuration: StoreConfiguration) -> ClientConfig:
    """Options of obstore's HTTP client. It would read the proxy of the environment, so it always gets one."""
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=SILENCE_S),
        "timeout": timedelta(seconds=WHOLE_S),
        "proxy_url": configuration.proxy or "http://unused.invalid",
        "proxy_excludes": NEVER_BY_PROXY if configuration.proxy else EVERYTHING,
    }
    if configuration.authorities:
        options["root_certificate"] = configuration.authorities
    return options


def _retry() -> RetryConfig:
    return {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)}
