"""Settings of uv, translated from those of pip, so that a configured index or certificate holds for both."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Mapping
from pathlib import Path

# pip's options, as in `pip config list` without their section, and the variables of uv. uv separates indexes by blanks
# and places of wheels by commas; pip separates both by blanks or lines.
VARIABLES: Mapping[str, tuple[str, str]] = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
}
# Every package is pinned, so which index has it does not matter; uv would only look at the first that knows its name.
ALWAYS = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}


def uv_settings(python: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with uv's settings; one that the user has set stays. `python` has pip."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(command, env=dict(environment), capture_output=True, text=True).stdout
    return {**translate(listed), **ALWAYS, **environment}


def translate(listed: str) -> dict[str, str]:
    """Variables of uv from the lines of `pip config list`: `global.index-url='...'`. The environment comes last."""
    variables = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, quoted = line.partition("=")
        option = name.rpartition(".")[2]
        if option in VARIABLES:
            variable, separator = VARIABLES[option]
            variables[variable] = separator.join(str(ast.literal_eval(quoted)).split())
    return variables
