"""Forms as a browser encodes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

FORM: Final = {"Content-Type": "multipart/form-data; boundary=edge"}  # the header of such a form


def form_body(parts: Mapping[str, str | Path]) -> bytes:
    """The body of a form of texts and files."""
    body = b""
    for name, value in parts.items():
        disposition = f'Content-Disposition: form-data; name="{name}"'
        content = value.encode() if isinstance(value, str) else value.read_bytes()
        if isinstance(value, Path):
            disposition += f'; filename="{value.name}"\r\nContent-Type: application/octet-stream'
        body += b"--edge\r\n" + disposition.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--edge--\r\n"
