"""Keys, authorities and proxies of a store: taken up while the process runs, for the store alone."""

from __future__ import annotations

import json
import os
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from controller.store.buckets import open_store
from controller.store.mirror import Mirror
from controller.store.objects import Store, StoreError
from controller.store.options import StoreOptions
from tests.fakes.faulty_store import FaultyStore, faulty_store
from tests.fakes.http_proxy import HttpProxy, http_proxy
from tests.fakes.memory_store import contents
from tests.unit.controller.store.test_options import mount

FILES = {"m/config.pbtxt": b"c", "m/1/model.onnx": b"one"}
pytestmark = pytest.mark.usefixtures("_no_variables")


@pytest.fixture
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def store() -> Iterator[FaultyStore]:
    with faulty_store() as store:
        fill(store)
        yield store


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def encrypted(authority: trustme.CA) -> Iterator[FaultyStore]:
    with faulty_store(authority.issue_cert("127.0.0.1", "store.example")) as store:
        fill(store)
        yield store


def fill(store: FaultyStore) -> None:
    for path, content in FILES.items():
        store.put(f"eu/{path}", content)


def keys(key: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "word"}


def opened(endpoint: str, folder: Path, more: dict[str, str] | None = None, **options: object) -> Store:
    """The store at an endpoint, with a Secret in `folder`."""
    secret = mount(folder / "secret", 1, keys("key") | {"AWS_ENDPOINT_URL": endpoint} | (more or {}))
    return open_store("s3://models/eu", StoreOptions(secret, **options))  # type: ignore[arg-type]


def test_renewed_keys_of_s3_are_used_for_listings_and_downloads(store: FaultyStore, tmp_path: Path) -> None:
    secret = mount(tmp_path / "secret", 1, keys("old") | {"AWS_ENDPOINT_URL": store.endpoint})
    mirror = Mirror(open_store("s3://models/eu", StoreOptions(secret)), tmp_path / "models", whole=True)
    mirror.refresh()
    assert set(store.callers) == {"old"}
    store.keys, store.callers = {"new"}, []
    with pytest.raises(StoreError, match="refuses a list of what is there: 403 Forbidden, InvalidAccessKeyId"):
        mirror.refresh()
    store.put("eu/m/2/model.onnx", b"two")
    mount(secret, 2, keys("new") | {"AWS_ENDPOINT_URL": store.endpoint})
    store.callers.clear()
    mirror.refresh()
    assert contents(tmp_path / "models") == FILES | {"m/2/model.onnx": b"two"}
    assert (set(store.callers), len(store.callers)) == ({"new"}, 2)


def test_unchanged_keys_keep_the_connection(store: FaultyStore, tmp_path: Path) -> None:
    opened_store = opened(store.endpoint, tmp_path)
    opened_store.list()
    connection = opened_store._connection
    opened_store.list()
    assert opened_store._connection is connection


def test_a_renewed_token_of_gcs_is_used(store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", store.endpoint)
    secret = mount(tmp_path / "secret", 1, {"GOOGLE_BEARER_TOKEN": "old"})
    mirror = Mirror(open_store("gs://models/eu", StoreOptions(secret)), tmp_path / "models", whole=True)
    mirror.refresh()
    store.keys = {"new"}
    with pytest.raises(StoreError, match="refuses a list of what is there: 403"):
        mirror.refresh()
    mount(secret, 2, {"GOOGLE_BEARER_TOKEN": "new"})
    store.put("eu/m/2/model.onnx", b"two")
    mirror.refresh()
    assert contents(tmp_path / "models") == FILES | {"m/2/model.onnx": b"two"}


def test_a_renewed_service_account_of_gcs_is_used(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", store.endpoint)
    secret = mount(tmp_path, 1, {"GOOGLE_SERVICE_ACCOUNT_KEY": service_account("old@here")})
    connected = open_store("gs://models/eu", StoreOptions(secret))
    connected.list()
    assert issuer(store.callers[-1]) == "old@here"
    mount(secret, 2, {"GOOGLE_SERVICE_ACCOUNT_KEY": service_account("new@here")})
    connected.list()
    assert issuer(store.callers[-1]) == "new@here"


def service_account(name: str) -> str:
    """The JSON of a key, with which obstore signs its own tokens."""
    pem = trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem.bytes().decode()
    return json.dumps({"client_email": name, "private_key": pem, "private_key_id": "1"})


def issuer(token: str) -> str:
    """The issuer of a JSON Web Token."""
    claims = token.split(".")[1]
    return str(json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iss"])


def test_a_pod_with_a_role_asks_for_its_keys_once(
    encrypted: FaultyStore, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """imgproxy#1671, arrow-rs-object-store#282: the keys of a role come by HTTP, and AWS limits their rate."""
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("token")
    with key_server() as (url, asked):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", encrypted.endpoint)
        store = open_store("s3://models/eu", StoreOptions(authorities=tmp_path / "ca.crt"))
        mirror = Mirror(store, tmp_path / "models", whole=True)
        for _ in range(5):
            mirror.refresh()
        assert contents(tmp_path / "models") == FILES
        assert (len(asked), set(asked)) == (2, {"token"}), "one for listings, one for downloads"
        assert all(caller.startswith("role-") for caller in encrypted.callers)


@contextmanager
def key_server() -> Iterator[tuple[str, list[str]]]:
    """The agent of a node that gives a pod the keys of its role; the tokens that it got."""
    asked = list[str]()

    class Agent(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Suppress the request log."""

        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization", ""))
            keys = {"AccessKeyId": f"role-{len(asked)}", "SecretAccessKey": "word", "Token": "session"}
            content = json.dumps(keys | {"Expiration": "2126-11-29T00:00:00Z"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Agent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/credentials", asked
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize("secret", [{"AWS_FOO": "x", "bucket": "y"}, {"AWS_SESSION_TOKEN": ""}])
def test_other_keys_of_a_secret_do_no_harm(store: FaultyStore, tmp_path: Path, secret: dict[str, str]) -> None:
    assert set(opened(store.endpoint, tmp_path, secret).list()) == set(FILES)


def test_the_endpoint_for_s3_alone_is_used_for_listings_too(
    store: FaultyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.endpoint)
    mirror = Mirror(
        open_store("s3://models/eu", StoreOptions(mount(tmp_path / "s", 1, keys("key")))), tmp_path / "m", whole=True
    )
    mirror.refresh()
    assert contents(tmp_path / "m") == FILES


def test_a_store_behind_a_private_authority_needs_that_authority(
    encrypted: FaultyStore, authority: trustme.CA, tmp_path: Path
) -> None:
    """kserve#3171"""
    ca = tmp_path / "ca.crt"
    with pytest.raises(
        StoreError, match="shows a certificate that is refused: unable to get .*issuer.*models.ca, --ca"
    ):
        opened(encrypted.endpoint, tmp_path / "public").list()
    trustme.CA().cert_pem.write_to_path(ca)
    store = opened(encrypted.endpoint, tmp_path, authorities=ca)
    with pytest.raises(StoreError, match="shows a certificate that is refused"):
        store.list()
    authority.cert_pem.write_to_path(ca)
    mirror = Mirror(store, tmp_path / "models", whole=True)
    mirror.refresh()
    assert contents(tmp_path / "models") == FILES


def test_downloads_and_listings_of_gcs_name_the_certificate(
    encrypted: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_BASE_URL", encrypted.endpoint)
    monkeypatch.setenv("GOOGLE_SKIP_SIGNATURE", "true")
    with pytest.raises(StoreError, match="shows a certificate that is refused: unknown issuer; models.ca, --ca"):
        open_store("gs://models/eu").list()


def test_a_certificate_for_another_name_is_named(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    fault = "is refused: IP address mismatch, certificate is not valid for"
    with faulty_store(authority.issue_cert("elsewhere.example")) as store, pytest.raises(StoreError, match=fault):
        opened(store.endpoint, tmp_path, authorities=tmp_path / "ca.crt").list()


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_authorities_is_named_and_a_better_one_is_used(
    encrypted: FaultyStore, authority: trustme.CA, tmp_path: Path, text: str
) -> None:
    (tmp_path / "ca.crt").write_text(text)
    store = opened(encrypted.endpoint, tmp_path, authorities=tmp_path / "ca.crt")
    for _ in range(2):
        with pytest.raises(StoreError, match="want (authorities as )?certificates in PEM"):
            store.list()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    assert set(store.list()) == set(FILES)


@pytest.fixture
def proxy(store: FaultyStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    """A proxy in front of the store, in the environment as well."""
    with http_proxy(store.port) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        yield proxy


def test_the_proxy_of_the_environment_is_not_used(store: FaultyStore, proxy: HttpProxy, tmp_path: Path) -> None:
    mirror = Mirror(opened(store.endpoint, tmp_path), tmp_path / "m", whole=True)
    mirror.refresh()
    assert contents(tmp_path / "m") == FILES
    assert proxy.asked == []


@pytest.mark.parametrize("host", ["store.example:9000", "minio.storage.svc:9000"], ids=["outside", "in NO_PROXY"])
def test_the_proxy_of_the_options_is_used_whatever_no_proxy_says(proxy: HttpProxy, tmp_path: Path, host: str) -> None:
    url = proxy.url.replace("//", "//us%40er:word@")
    store = opened(f"http://{host}", tmp_path, proxy=url)
    mirror = Mirror(store, tmp_path / "m", whole=True)
    mirror.refresh()
    assert contents(tmp_path / "m") == FILES
    assert proxy.asked == [f"GET {host}"] * 3
    assert proxy.words == {"us@er:word"}


def test_a_store_over_tls_is_reached_through_a_tunnel(
    encrypted: FaultyStore, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    with http_proxy(encrypted.port) as proxy:
        store = opened("https://store.example", tmp_path, authorities=tmp_path / "ca.crt", proxy=proxy.url)
        mirror = Mirror(store, tmp_path / "m", whole=True)
        mirror.refresh()
        assert contents(tmp_path / "m") == FILES
        assert set(proxy.asked) == {"CONNECT store.example:443"}


def test_a_proxy_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    store = opened("http://store.example", tmp_path, proxy="http://me:word@127.0.0.1:1")
    with pytest.raises(StoreError, match="does not answer through proxy http://127.0.0.1:1: Connection refused"):
        store.list()
