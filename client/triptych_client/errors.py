"""Errors of the client, named for what the caller should do about them.

    AskError
    ├── InvalidOptions   change the arguments of `Ask`
    ├── InvalidColumns   change the columns; `faults` lists all that is wrong with them
    ├── RefusedRow       change this row, or ask with `on_bad_rows="keep"`
    └── RequestFailed    by its `code`: ask for what exists, later, or with more time

All of them can be pickled, so that Ray and Spark carry them from their workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

# Codes of gRPC by which a server says that it is worth asking again.
_TRANSIENT: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
# Codes of a request that its rows may be at fault for: they are asked in parts.
_BY_ROWS: Final = frozenset({"INVALID_ARGUMENT", "INTERNAL"})
# The sentences of gRPC about a message, and of preprocess about a Triton without memory.
_TOO_LARGE: Final = ("message larger than max", "no memory for the request")


class AskError(Exception):
    """The root. `str(error)` is a sentence for people."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._again, (self.args, self.__dict__)

    @classmethod
    def _again(cls, args: tuple[Any, ...], facts: dict[str, Any]) -> AskError:
        error = cls.__new__(cls, *args)
        error.args = args
        error.__dict__.update(facts)
        return error


class InvalidOptions(AskError, ValueError):
    """The arguments of `Ask` cannot be served together."""


class InvalidColumns(AskError, ValueError):
    """The columns do not fit the inputs of the model. `faults` has one sentence for each fault."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("the columns do not fit the model: " + "; ".join(faults))
        self.faults = tuple(faults)


class RefusedRow(AskError):
    """One row cannot be answered. `row` counts from 0 in the batch or table, `code` is that of gRPC."""

    def __init__(self, row: int, code: str, text: str) -> None:
        super().__init__(f"row {row}: {code}: {text}")
        self.row, self.code, self.text = row, code, text


class RequestFailed(AskError):
    """A request was not answered. `code` is that of gRPC.

    `retry_after_s` is the server's retry hint: None without one, infinity if it asks never to retry.
    `is_of_connection` is true for an error that no stage has written, such as that of a broken connection.
    """

    def __init__(
        self, code: str, text: str, retry_after_s: float | None = None, *, is_of_connection: bool = False
    ) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.retry_after_s = code, text, retry_after_s
        self.is_of_connection = is_of_connection

    @property
    def is_too_large(self) -> bool:
        """Whether fewer rows may be answered where these are not."""
        return self.code == "RESOURCE_EXHAUSTED" and any(words in self.text.lower() for words in _TOO_LARGE)

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        if self.is_too_large or self.retry_after_s == float("inf"):
            return False
        # A server that is killed ends its calls with one of several codes. A prediction can be asked for twice.
        return self.code in _TRANSIENT or (self.is_of_connection and self.code in ("INTERNAL", "UNKNOWN", "CANCELLED"))

    @property
    def may_be_of_rows(self) -> bool:
        """Whether some rows may be at fault, so that the others can be answered."""
        is_of_parameter = self.text.startswith("parameter '")  # `InvalidParameter`: the same for all rows
        return self.is_too_large or (self.code in _BY_ROWS and not is_of_parameter and not self.is_of_connection)
