"""The one error of the launcher."""

from __future__ import annotations


class CannotStart(Exception):
    """Triton cannot be started; the text says what to do."""
