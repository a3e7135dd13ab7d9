"""Objects in a folder, and in a real store of S3 where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trustme

from jobs.objects import Objects
from tests.integration.s3_gateway import s3_gateway
from triptych.errors import Internal, Unavailable


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    if request.param == "folder":
        yield Objects(str(tmp_path / "objects"))
        return
    with s3_gateway(tmp_path / "store", monkeypatch):
        yield Objects("s3://models/results")


async def test_object_is_written_once(objects: Objects) -> None:
    await objects.put("jobs/a/parts/1.1", b"first")
    with pytest.raises(Internal, match=r"object jobs/a/parts/1.1 of .* exists"):
        await objects.put("jobs/a/parts/1.1", b"second")
    assert await objects.get("jobs/a/parts/1.1") == b"first"


async def test_object_is_read_in_chunks_from_an_offset(objects: Objects) -> None:
    await objects.put("jobs/a/x", b"0123456789")
    assert [chunk async for chunk in objects.chunks("jobs/a/x", 3, 4)] == [b"3456", b"789"]
    assert [chunk async for chunk in objects.chunks("jobs/a/x", 10)] == []
    with pytest.raises(FileNotFoundError, match="jobs/a/y"):
        await objects.get("jobs/a/y")


async def test_object_is_written_in_pieces(objects: Objects) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number]) * 6_000_000

    await objects.put_lines("jobs/a/manifest", pieces())
    assert await objects.sizes("jobs/a") == {"jobs/a/manifest": 18_000_000}
    assert (await objects.get("jobs/a/manifest"))[5_999_999:6_000_001] == b"\x00\x01"


async def test_folders_are_listed_and_deleted(objects: Objects) -> None:
    assert await objects.folders("jobs") == []
    for name in ("jobs/a/parts/1.1", "jobs/a/parts/2.1", "jobs/ab/parts/1.1"):
        await objects.put(name, b"x")
    assert await objects.folders("jobs") == ["a", "ab"]
    await objects.delete_below("jobs/a")
    await objects.delete_below("jobs/none")
    assert await objects.folders("jobs") == ["ab"]


async def test_a_store_with_a_private_authority_is_trusted_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    with s3_gateway(tmp_path / "store", monkeypatch, authority.issue_cert("127.0.0.1")):
        with pytest.raises(Unavailable, match="object store .* does not answer"):
            await Objects("s3://models/results").put("jobs/a/parts/1.1", b"x")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        objects = Objects("s3://models/results")
        await objects.put("jobs/a/parts/1.1", b"x")
        assert await objects.get("jobs/a/parts/1.1") == b"x"


@pytest.mark.parametrize(("content", "says"), [(b"", "want certificates in PEM, got none"), (None, "No such file")])
def test_a_file_of_authorities_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with pytest.raises(ValueError, match=rf"AWS_CA_BUNDLE: .*ca\.pem: {says}"):
        Objects("s3://models/results")


@pytest.mark.parametrize("location", ["gs://bucket", "s3://", "s3://bucket/x?y", "http://host/x"])
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(ValueError, match="want a folder, or s3://bucket/prefix, got"):
        Objects(location)


async def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path / "objects"))
    (tmp_path / "objects/jobs").write_text("no folder")
    with pytest.raises(Unavailable, match="object store .*objects does not answer"):
        await objects.put("jobs/a/parts/1.1", b"x")
