"""Errors of sources: each names the file and, where known, the line, row or row group. The tree:

SourceError           the source cannot be read as it is
├── SourceRefused     a rule or a limit forbids it
├── SourceChanged     the file is another one than at the plan
└── SourceUnavailable the store does not answer now
"""

from __future__ import annotations

from triptych.contract.reading.files import escaped, printable_path
from triptych.errors import clipped

MAX_SENTENCE = 500  # characters; a sentence may quote any file


class SourceError(Exception):
    """A source cannot be read. The text is `file: place: sentence`; `place` is such as `line 7`, or empty."""

    def __init__(self, file: str, sentence: str, place: str = "") -> None:
        self.file, self.place, self.sentence = file, place, escaped(clipped(sentence, MAX_SENTENCE))
        super().__init__(": ".join(part for part in (printable_path(file), place, self.sentence) if part))

    def __reduce__(self) -> tuple[type[SourceError], tuple[str, str, str]]:
        return type(self), (self.file, self.sentence, self.place)


class SourceRefused(SourceError):
    """A rule or a limit forbids to read the source."""


class SourceChanged(SourceError):
    """The file differs from the one that was planned."""


class SourceUnavailable(SourceError):
    """The store of the file does not answer; the same read may succeed later."""


def first_line(error: BaseException) -> str:
    """The reason of a library's exception, in one line."""
    return str(error).partition("\n")[0].strip() or type(error).__name__
