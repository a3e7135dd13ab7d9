"""The error of this package."""

from __future__ import annotations


class LocalError(Exception):
    """The stack cannot run here, or has stopped running; the text says why and what to do."""
