"""Options of connections to object stores, by the variables that other tools of S3 read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from triptych.runtime.pem import certificates

ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
AUTHORITIES: Final = "AWS_CA_BUNDLE"  # a file of PEM, trusted beside the public ones


def endpoint() -> str:
    """The address of the store; '' is that of AWS."""
    return next((value for name in ENDPOINTS if (value := os.environ.get(name))), "")


def client_options() -> dict[str, Any]:
    """Options of obstore's HTTP client, which reads the proxy of the environment itself. Raises `ValueError`."""
    options: dict[str, Any] = {"allow_http": endpoint().startswith("http://")}
    if file := os.environ.get(AUTHORITIES):
        try:
            options["root_certificate"] = certificates(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"{AUTHORITIES}: {file}: {getattr(error, 'strerror', None) or error}") from None
    return options
