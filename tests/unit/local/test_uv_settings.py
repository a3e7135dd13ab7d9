"""Settings of uv: those of pip hold for both."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from local.uv_settings import translate, uv_settings

LISTED = r"""
:env:.find-links='/wheels /more'
global.index-url='https://mirror.example/simple'
global.extra-index-url='\nhttps://one.example/simple\nhttps://two.example/simple'
global.cert='/etc/ca.pem'
global.timeout='60'
install.trusted-host='mirror.example'
user.no-cache-dir='true'
"""


def test_options_of_pip_become_variables_of_uv() -> None:
    assert translate(LISTED) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_HTTP_TIMEOUT": "60",
        "UV_INSECURE_HOST": "mirror.example",
    }


def test_the_environment_overrides_a_file() -> None:
    assert translate(":env:.timeout='5'\nglobal.timeout='60'\n") == {"UV_HTTP_TIMEOUT": "5"}


@pytest.mark.parametrize("listed", ["", "WARNING: no such file\n", "global.no-color='true'\n"])
def test_other_lines_are_nothing(listed: str) -> None:
    assert translate(listed) == {}


def test_a_variable_of_uv_that_is_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.uv_settings.translate", lambda listed: {"UV_DEFAULT_INDEX": "of pip"})
    assert uv_settings(Path(sys.executable), {**os.environ, "UV_DEFAULT_INDEX": "mine"})["UV_DEFAULT_INDEX"] == "mine"
    assert uv_settings(Path(sys.executable), os.environ)["UV_PYTHON_DOWNLOADS"] == "never"
