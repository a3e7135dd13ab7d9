"""Stores by their URI, their errors, and the location of the controller's models."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from controller.settings import Settings
from controller.store.buckets import open_store
from controller.store.location import STORE, default_folder, model_source
from controller.store.objects import ObjectChanged, Store, StoreConnection, StoreError
from controller.store.options import StoreConfiguration
from controller.store.uri import split
from tests.fakes.memory_store import InMemoryStore
from tests.model_folders import publish


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://models", ("s3", "models", "")),
        ("s3://models/eu/", ("s3", "models", "eu")),
        ("gs://models/eu/live", ("gs", "models", "eu/live")),
        ("file:///srv/models", ("file", "", "srv/models")),
    ],
)
def test_a_uri_is_a_kind_of_store_a_bucket_and_a_prefix(uri: str, parts: tuple[str, str, str]) -> None:
    assert split(uri) == parts


@pytest.mark.parametrize(
    "uri",
    ["models", "s3://", "s3:///eu", "ftp://host/models", "file://host/models", "file:///", "s3://a/b//c", "s3://a/b?c"]
    + ["s3://a/../b", "s3://a/./b", "s3://minio:9000/models", "s3://a b/c", "s3://a%20b/c"],
)
def test_what_is_no_uri_of_a_store_is_refused_with_what_is_wanted(uri: str) -> None:
    with pytest.raises(ValueError, match="want .*, got '"):
        open_store(uri)


def test_a_key_in_a_uri_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="want the name of a bucket behind s3://, got 'models'") as caught:
        split("s3://AKIA:word@models/eu")
    assert "word" not in str(caught.value)


def test_a_uri_that_is_none_stops_the_start_of_the_controller() -> None:
    assert Settings(model_repository="gs://models/eu").model_repository == "gs://models/eu"
    assert Settings(model_repository="C:/models").model_repository == "C:/models"
    with pytest.raises(ValidationError, match="model_repository"):
        Settings(model_repository="sftp://models/eu")


def test_a_folder_is_a_store_too(tmp_path: Path) -> None:
    publish(tmp_path / "there", "sales_de")
    store = open_store(f"file://{tmp_path}/there")
    listed = store.list()
    assert set(listed) == {"sales_de/config.pbtxt", "sales_de/1/contract.yaml", "sales_de/1/model.onnx"}
    file = tmp_path / "there/sales_de/1/model.onnx"
    assert listed["sales_de/1/model.onnx"].size == file.stat().st_size
    assert abs(listed["sales_de/1/model.onnx"].modified_ns - file.stat().st_mtime_ns) < 1000
    with pytest.raises(StoreError, match=r"^file:///nowhere/at/all: cannot be read: /nowhere/at/all does not answer"):
        open_store("file:///nowhere/at/all").list()


def test_an_object_is_read_only_if_it_is_still_what_was_listed(tmp_path: Path) -> None:
    store, came = InMemoryStore(), list[int]()
    store.put("sales_de/1/model.onnx", b"x" * 2_500_000)
    listed = store.list()["sales_de/1/model.onnx"]
    store.read("sales_de/1/model.onnx", listed, tmp_path / "file", came.append)
    assert ((tmp_path / "file").stat().st_size, sum(came)) == (2_500_000, 2_500_000)
    store.put("sales_de/1/model.onnx", b"y" * 2_500_001)
    with pytest.raises(ObjectChanged):
        store.read("sales_de/1/model.onnx", listed, tmp_path / "file", came.append)
    with pytest.raises(ObjectChanged):
        store.read("sales_de/1/gone.onnx", listed, tmp_path / "file", came.append)


@pytest.mark.parametrize(
    ("tag", "later_s", "same"),
    [('"1"', 9, True), ("1", 9, True), ("", 0, True), ("", 9, False), ("W/1", 9, True), ("other", 0, False)],
    ids=["same tag", "unquoted", "no tag, same second", "no tag, another second", "weak tag", "other tag, same second"],
)
def test_an_answer_is_known_again_by_its_tag_and_without_one_by_its_second(
    tag: str, later_s: int, same: bool, tmp_path: Path
) -> None:
    store = InMemoryStore()
    store.put("sales_de/1/model.onnx")
    now = store.list()["sales_de/1/model.onnx"]
    assert now.tag == '"0"'
    listed = replace(now, tag=tag.replace("1", "0"), modified_ns=now.modified_ns - later_s * 10**9)
    if same:
        store.read("sales_de/1/model.onnx", listed, tmp_path / "file", lambda count: None)
        assert (tmp_path / "file").read_text() == "content"
    else:
        with pytest.raises(ObjectChanged):
            store.read("sales_de/1/model.onnx", listed, tmp_path / "file", lambda count: None)


REFUSED = """\
Generic S3 error: Error performing list request: Error performing GET http://s3:9000/models in 867.627µs - Server \
returned non-2xx status code: 403 Forbidden: <?xml version="1.0"?>
<Error><Code>SignatureDoesNotMatch</Code><RequestId>KR298TEP4MWDUSFJ</RequestId></Error>"""
NO_BUCKET = REFUSED.replace("403 Forbidden", "404 Not Found").replace("SignatureDoesNotMatch", "NoSuchBucket")
NOBODY = """\
Generic S3 error: Error performing GET http://s3:9000/models in 301.162878ms, after 2 retries - HTTP error

Debug source:
   source: Os { code: 111, kind: ConnectionRefused, message: "Connection refused", }"""
NO_NAME = NOBODY.replace('message: "Connection refused"', 'error: "failed to lookup address information: unknown"')
BUSY = REFUSED.replace("403 Forbidden", "503 Slow Down").replace("SignatureDoesNotMatch", "SlowDown")


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (REFUSED, "memory refuses a list of what is there: 403 Forbidden, SignatureDoesNotMatch; "),
        (NO_BUCKET, "memory has no such bucket: 404 Not Found, NoSuchBucket; "),
        (NOBODY, "memory does not answer: Connection refused; "),
        (NO_NAME, "memory does not answer: failed to lookup address information: unknown; "),
        (BUSY, "memory does not answer: 503 Slow Down, SlowDown; "),
        ("something in 3.4ms new", "memory does not answer: something new; "),
    ],
)
def test_a_fault_is_one_sentence_that_is_the_same_from_try_to_try(said: str, detail: str) -> None:
    class Failing:
        remedy = "AWS_ENDPOINT_URL says where it is"

        def endpoint(self, _configuration: StoreConfiguration) -> str:
            return "memory"

        def connect(self, _configuration: StoreConfiguration) -> StoreConnection:
            raise ValueError(said)

    with pytest.raises(StoreError) as caught:
        Store("s3://models/eu", Failing()).list()
    assert str(caught.value) == f"s3://models/eu: cannot be read: {detail}AWS_ENDPOINT_URL says where it is"


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, "https://s3.us-east-1.amazonaws.com"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "https://s3.eu-west-1.amazonaws.com"),
        ({"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "eu-west-1"}, "http://minio:9000"),
        ({"AWS_ENDPOINT_URL": "http://other", "AWS_ENDPOINT_URL_S3": "http://minio:9000"}, "http://minio:9000"),
    ],
)
def test_the_usual_variables_set_the_address_of_a_store(
    variables: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_store("s3://models/eu").endpoint == endpoint


def test_a_folder_of_models_is_read_where_it_is() -> None:
    source = model_source("model-repository", None)
    assert (source.folder, source.refresh(), source.digest_of) == (Path("model-repository"), {}, None)


def test_a_store_is_read_through_a_folder_that_is_kept_up_to_date(tmp_path: Path) -> None:
    publish(tmp_path / "there", "sales_de")
    source = model_source(f"file://{tmp_path}/there", tmp_path / "here")
    folder = source.folder
    assert (folder, source.refresh()) == (tmp_path / "here", {})
    assert (folder / "sales_de/config.pbtxt").read_text() == (tmp_path / "there/sales_de/config.pbtxt").read_text()
    publish(tmp_path / "there", "sales_de", 2)
    assert source.refresh() == {}
    assert (folder / "sales_de/2/contract.yaml").exists()


def test_an_unreachable_store_stops_only_a_start_without_earlier_copies(tmp_path: Path) -> None:
    publish(tmp_path / "there", "sales_de")
    uri = f"file://{tmp_path}/there"
    refresh = model_source(uri, tmp_path / "here").refresh
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="does not answer"):
        refresh()
    (tmp_path / "elsewhere").rename(tmp_path / "there")
    assert refresh() == {}
    (tmp_path / "there").rename(tmp_path / "elsewhere")
    assert "does not answer" in refresh()[STORE]
    assert (tmp_path / "here/sales_de/config.pbtxt").exists()


def test_each_store_has_a_folder_of_its_own_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = default_folder("s3://models/eu"), default_folder("s3://models/us")
    assert first != second
    assert first.parent == second.parent == tmp_path / "triptych"
    assert first == default_folder("s3://models/eu")
