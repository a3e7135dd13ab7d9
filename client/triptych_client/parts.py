"""Rows as requests, and the parts of an answer.

Rows go together as far as they fit: at most `max_rows` and `max_bytes`, of one shape. A request that its rows may be at
fault for is asked in halves, until the rows at fault stand alone.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from triptych.contract import Scalar
from triptych.datatypes import TO_NUMPY, Array, describe_array
from triptych.protocol.metadata import ModelInfo, TensorInfo
from triptych_client.columns.inputs import InputColumns, tensor_bytes
from triptych_client.columns.reading import BadValue, OtherShape
from triptych_client.columns.types import text_of
from triptych_client.errors import RefusedRow, RequestFailed
from triptych_client.homes.home import Home, ModelAnswer, ModelRequest
from triptych_client.retries import Retries

_WIDTH: Final = 4  # of a column against its tensor: doubles to FP16


class RowError(NamedTuple):
    """Why a row has no answer: the code of gRPC, and the sentence."""

    code: str
    text: str


NO_KEY: Final = RowError("INVALID_ARGUMENT", "want a traffic key, got none")


@dataclass(frozen=True)
class AnswerPart:
    """Consecutive rows of one request, or one row without an answer. `time_us` is Unix time in microseconds."""

    rows: int
    id: str
    time_us: int
    answer: ModelAnswer | None = None
    error: RowError | None = None


@dataclass(frozen=True)
class AskTarget:
    """The part that all requests share: a model, a version ('' for that of the traffic), parameters and outputs."""

    model: str
    version: str
    parameters: Mapping[str, Scalar]
    outputs: tuple[str, ...]


class _Rows(NamedTuple):
    start: int
    end: int
    version: str
    error: RowError | None = None


class PartAsker:
    """Asks ranges of rows of a table."""

    def __init__(
        self,
        home: Home,
        target: AskTarget,
        info: ModelInfo,
        columns: InputColumns,
        retries: Retries,
        *,
        max_bytes: int,
        keeps_bad_rows: bool,
    ) -> None:
        self._home, self._target, self._columns, self._retries = home, target, columns, retries
        self._outputs = [tensor for tensor in info.outputs if not target.outputs or tensor.name in target.outputs]
        self._max_bytes, self._keeps_bad_rows = max_bytes, keeps_bad_rows
        self._row_bytes = columns.row_bytes()
        self._prefix, self._numbers = secrets.token_hex(4), itertools.count(1)

    def ask(
        self, table: Any, start: int, end: int, stopped: threading.Event, version: str | None = ""
    ) -> list[AnswerPart]:
        """The parts of rows `start` to `end`, in order, unless `stopped`. Raises `RefusedRow` or `RequestFailed`.

        `version` is that of the target if '', and None for rows without a traffic key.
        """
        if version is None:
            return [self._unanswered(row, NO_KEY) for row in range(start, end)]
        parts: list[AnswerPart] = []
        left = [_Rows(start, end, version or self._target.version)]  # the next is the last
        while left and not stopped.is_set():
            rows = left.pop()
            if rows.error is not None:
                parts.append(self._unanswered(rows.start, rows.error))
            elif rows.start < rows.end:
                done = self._try(table, rows, stopped)
                if isinstance(done, AnswerPart):
                    parts.append(done)
                else:
                    left += reversed(done)
        return parts

    def _try(self, table: Any, rows: _Rows, stopped: threading.Event) -> AnswerPart | Sequence[_Rows]:
        """The answer to all rows, or the parts in which they are asked instead."""
        count, some = rows.end - rows.start, table.slice(rows.start, rows.end - rows.start)
        may_be_large = count > 1 and (self._row_bytes is None or count * self._row_bytes > self._max_bytes)
        if may_be_large and self._columns.size_bytes(some) > _WIDTH * self._max_bytes:
            return _halves(rows)
        try:
            tensors = self._columns.tensors(some)
        except OtherShape as error:
            at = rows.start + error.row
            return rows._replace(end=at), rows._replace(start=at)
        except BadValue as error:
            return _around(rows, error.row, RowError("INVALID_ARGUMENT", str(error)))
        if may_be_large and tensor_bytes(tensors) > self._max_bytes:
            return _halves(rows)
        try:
            return self._answer(tensors, count, rows.version, stopped)
        except RequestFailed as error:
            if not error.may_be_of_rows:
                raise
            if count > 1:
                return _halves(rows)
            text = error.text.replace("got row 0: ", "got ", 1)  # of the request, which no other knows
            return _around(rows, 0, RowError(error.code, text))

    def _answer(self, tensors: Mapping[str, Array], rows: int, version: str, stopped: threading.Event) -> AnswerPart:
        """The answer to one request. Raises `RequestFailed`."""
        target = self._target
        name = f"{self._prefix}-{next(self._numbers)}"
        request = ModelRequest(name, target.model, version, tensors, target.parameters, target.outputs)
        answer = self._retries(lambda: self._home.ask(request), stopped)
        for tensor in self._outputs:
            if fault := _fault(tensor, answer.outputs.get(tensor.name), rows):
                raise RequestFailed("DATA_LOSS", f"output '{tensor.name}': {fault}")
        return AnswerPart(rows, name, _now_us(), answer)

    def _unanswered(self, row: int, error: RowError) -> AnswerPart:
        """The part of a row that is at fault. Raises `RefusedRow` unless such rows are kept."""
        if not self._keeps_bad_rows:
            raise RefusedRow(row, *error)
        return AnswerPart(1, "", _now_us(), error=error)


def _halves(rows: _Rows) -> Sequence[_Rows]:
    middle = (rows.start + rows.end) // 2
    return rows._replace(end=middle), rows._replace(start=middle)


def _around(rows: _Rows, bad: int, error: RowError) -> Sequence[_Rows]:
    """The rows before and behind one that is at fault, and its error between them."""
    at = rows.start + bad
    return rows._replace(end=at), _Rows(at, at + 1, rows.version, error), rows._replace(start=at + 1)


def _fault(tensor: TensorInfo, array: Array | None, rows: int) -> str:
    """Why an output is not what the model declares; '' if it is."""
    if array is None:
        return f"want {text_of(tensor)}, got nothing"
    wanted = (rows, *tensor.shape[1:])
    fits = len(wanted) == array.ndim and all(dim in (-1, size) for dim, size in zip(wanted, array.shape, strict=True))
    if fits and array.dtype == TO_NUMPY[tensor.datatype]:
        return ""
    return f"want {text_of(tensor)} with n = {rows}, got {describe_array(array)}"


def _now_us() -> int:
    return time.time_ns() // 1000
