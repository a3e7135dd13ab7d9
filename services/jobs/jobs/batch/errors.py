"""Errors of a run, by what the caller can do. The tree:

BatchError            the run cannot go on as it is
└── Interrupted       the same command goes on where this one ended
"""

from __future__ import annotations

from jobs.readers.errors import SourceError, SourceUnavailable


class BatchError(Exception):
    """A run that cannot be made, or has failed. The text says what to change."""


class Interrupted(BatchError):
    """A run that has not ended. The text says why; the same command goes on with it."""


def by_source(error: SourceError) -> BatchError:
    """The error of a run by that of one of its files."""
    return (Interrupted if isinstance(error, SourceUnavailable) else BatchError)(str(error))
