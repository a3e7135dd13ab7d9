"""The configuration of a store: variables of a Secret's folder, authorities, and a proxy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller.store.options import StoreConfiguration, StoreOptions, proxy_url


def mount(folder: Path, number: int, files: dict[str, str]) -> Path:
    """Write a Secret as kubelet does: files behind the link `..data`, which is replaced as a whole."""
    data = folder / f"..{number}"
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..new").symlink_to(data.name)
    os.replace(folder / "..new", folder / "..data")
    return folder


def test_each_file_of_a_secret_is_a_variable_without_its_last_line_break(tmp_path: Path) -> None:
    folder = mount(tmp_path, 1, {"AWS_ACCESS_KEY_ID": "old\n", "AWS_SECRET_ACCESS_KEY": "word"})
    options = StoreOptions(folder)
    assert options.read().secret == {"AWS_ACCESS_KEY_ID": "old", "AWS_SECRET_ACCESS_KEY": "word"}
    mount(tmp_path, 2, {"AWS_ACCESS_KEY_ID": "new", "AWS_SECRET_ACCESS_KEY": "words"})
    assert options.read().secret == {"AWS_ACCESS_KEY_ID": "new", "AWS_SECRET_ACCESS_KEY": "words"}


def test_a_folder_without_links_is_one_too(tmp_path: Path) -> None:
    (tmp_path / "AWS_ACCESS_KEY_ID").write_text("key")
    assert StoreOptions(tmp_path).read() == StoreConfiguration({"AWS_ACCESS_KEY_ID": "key"})


def test_the_environment_wins_over_the_secret_as_env_over_env_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    known = StoreConfiguration({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://s3", "AWS_ACCESS_KEY_ID": "key"})
    assert known.variable("AWS_REGION") == "eu-central-1"
    assert known.variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL") == "http://s3"
    assert known.of_secret(["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]) == {"aws_access_key_id": "key"}


@pytest.mark.parametrize("text", ["", "http://proxy:3128", "http://user:word@proxy.corp.example:3128/"])
def test_a_proxy_is_a_url_of_http(text: str) -> None:
    assert proxy_url(text) == text


@pytest.mark.parametrize("text", ["proxy:3128", "https://proxy:3128", "socks5://proxy", "http://", "http://proxy/x"])
def test_any_other_proxy_is_refused_with_what_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="want http://host:port"):
        proxy_url(text)


def test_the_password_of_a_proxy_is_not_shown() -> None:
    assert StoreConfiguration(proxy="http://user:word@proxy:3128").printable_proxy == "http://proxy:3128"
