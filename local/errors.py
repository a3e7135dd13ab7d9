"""The one error of the launcher."""

from __future__ import annotations


class LocalError(Exception):
    """The chain cannot run here, or no longer does; the text is one line on what and what to do."""
