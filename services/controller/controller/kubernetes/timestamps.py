"""Timestamps in the formats of the Kubernetes API."""

from __future__ import annotations

from datetime import UTC, datetime


def now_rfc3339() -> str:
    """The time in seconds, as conditions have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def now_micro() -> str:
    """The time in microseconds, as events and leases have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
