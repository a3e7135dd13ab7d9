"""Text of a traffic split, for the journal and for the status of a ServedModel."""

from __future__ import annotations

from collections.abc import Mapping


def format_split(shares: Mapping[int, int]) -> str:
    """`3:95% 4:5%`, or `none`, from percent by version."""
    return " ".join(f"{version}:{percent}%" for version, percent in sorted(shares.items())) or "none"
