"""A real S3 store whose keys are rotated and whose certificate is of a private authority."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from controller.store.buckets import open_store
from controller.store.mirror import Mirror
from controller.store.objects import StoreError
from controller.store.options import StoreOptions
from tests.fakes.memory_store import contents
from tests.integration.s3_gateway import Gateway, s3_gateway
from tests.unit.controller.store.test_options import mount


def test_rotated_keys_of_a_store_with_a_private_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    ca, secret, folder = tmp_path / "ca.crt", tmp_path / "secret", tmp_path / "models"
    authority.cert_pem.write_to_path(ca)
    with s3_gateway(tmp_path / "s3", monkeypatch, authority.issue_cert("127.0.0.1")) as gateway:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        put(gateway, "eu/m/1/model.onnx", b"one")
        mount(secret, 1, gateway.create_account("old"))
        with pytest.raises(StoreError, match="shows a certificate that is refused: unable to get local issuer"):
            open_store("s3://models/eu", StoreOptions(secret)).list()
        mirror = Mirror(open_store("s3://models/eu", StoreOptions(secret, ca)), folder, whole=True)
        mirror.refresh()
        gateway.delete_account("old")
        put(gateway, "eu/m/2/model.onnx", b"two")
        with pytest.raises(StoreError, match="refuses a list of what is there: 403 Forbidden, InvalidAccessKeyId"):
            mirror.refresh()
        mount(secret, 2, gateway.create_account("new"))
        mirror.refresh()
        assert contents(folder) == {"m/1/model.onnx": b"one", "m/2/model.onnx": b"two"}


def put(gateway: Gateway, key: str, content: bytes) -> None:
    """Write an object into the folder of the gateway."""
    file = gateway.folder / key
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
