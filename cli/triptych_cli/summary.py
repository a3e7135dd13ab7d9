"""The running summary of a job or batch in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from triptych.contract.reading.files import escaped


def summary_text(summary: Mapping[str, Any]) -> str:
    """`sum of total 3.5, vote of label 8 (2 of 3)`; empty without a summary."""
    return ", ".join(_value_text(escaped(name), found) for name, found in summary.items())


def _value_text(name: str, found: Mapping[str, Any]) -> str:
    (op, value), *_ = found.items()
    if op == "vote":
        votes = (found.get("votes") or {}).get(value)
        return f"vote of {name} {escaped(str(value))}" + (f" ({votes} of {found['rows']})" if votes else "")
    values = value if isinstance(value, list) else [value]
    return f"{op} of {name} {', '.join(_number_text(each) for each in values)}"


def _number_text(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
