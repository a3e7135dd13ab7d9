"""Parts of an answer as a table: columns that are passed on, outputs, the error of a row, and its record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from triptych.datatypes import Array
from triptych.protocol.metadata import TensorInfo
from triptych_client.columns.types import column_type
from triptych_client.columns.writing import write_column
from triptych_client.errors import InvalidColumns, RequestFailed
from triptych_client.parts import AnswerPart

ERROR: Final = "error"
ERROR_TYPE: Final = pa.struct([("code", pa.string()), ("text", pa.string())])
RECORD: Final[Mapping[str, Any]] = {
    "triptych_model": pa.string(),
    "triptych_version": pa.int64(),
    "triptych_contract": pa.string(),
    "triptych_id": pa.string(),
    "triptych_time": pa.timestamp("us", "UTC"),
}

DigestOf = Callable[[str, str], str]  # of the contract of a model and version


class AnswerColumns:
    """The columns of an answer: `keep`, outputs, `error` if bad rows are kept, and those of `RECORD` if wanted."""

    def __init__(
        self,
        outputs: Sequence[TensorInfo],
        names: Mapping[str, str],
        *,
        keep: Sequence[str] | None,
        text: Collection[str],
        has_errors: bool,
        digest_of: DigestOf | None,
    ) -> None:
        """`names` are columns of outputs. `keep` None keeps all. With `digest_of` there is a record of each row."""
        self._outputs = {names.get(tensor.name, tensor.name): tensor for tensor in outputs}
        self._keep, self._text, self._has_errors, self._digest_of = keep, text, has_errors, digest_of

    def schema(self, schema: Any) -> Any:
        """Schema of the answer to a table of some schema. Raises `InvalidColumns` for two columns of one name."""
        fields = [schema.field(name) for name in self._kept(schema)]
        fields += [
            pa.field(name, column_type(tensor, is_text=tensor.name in self._text))
            for name, tensor in self._outputs.items()
        ]
        if self._has_errors:
            fields.append(pa.field(ERROR, ERROR_TYPE))
        if self._digest_of is not None:
            fields += [pa.field(name, kind) for name, kind in RECORD.items()]
        names = [field.name for field in fields]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            hint = "leave it out of `keep`, or name the output's column in `outputs`"
            raise InvalidColumns([f"column '{name}' would be there twice; {hint}" for name in twice])
        return pa.schema(fields)

    def _kept(self, schema: Any) -> Sequence[str]:
        return schema.names if self._keep is None else self._keep

    def table(self, asked: Any, parts: Sequence[AnswerPart]) -> Any:
        """The answer to a table, from the parts of all its rows."""
        schema = self.schema(asked.schema)
        columns = [asked.column(name) for name in self._kept(asked.schema)]
        for name, tensor in self._outputs.items():
            kind = schema.field(name).type
            columns.append(pa.chunked_array([self._output(tensor, kind, part) for part in parts], kind))
        if self._has_errors:
            columns.append(pa.chunked_array([_errors(part) for part in parts], ERROR_TYPE))
        if self._digest_of is not None:
            columns += self._records(parts, self._digest_of)
        return pa.Table.from_arrays(columns, schema=schema)

    def _output(self, tensor: TensorInfo, kind: Any, part: AnswerPart) -> Any:
        if part.answer is None:
            return pa.nulls(part.rows, kind)
        array: Array = part.answer.outputs[tensor.name]
        try:
            return write_column(array, tensor, is_text=tensor.name in self._text)
        except UnicodeDecodeError as error:
            text = f"output '{tensor.name}' is not UTF-8; leave it out of `text`: {error}"
            raise RequestFailed("DATA_LOSS", text) from None

    def _records(self, parts: Sequence[AnswerPart], digest_of: DigestOf) -> Iterator[Any]:
        rows = [_record(part, digest_of) for part in parts]
        for at, kind in enumerate(RECORD.values()):
            chunks = [pa.repeat(pa.scalar(row[at], kind), part.rows) for row, part in zip(rows, parts, strict=True)]
            yield pa.chunked_array(chunks, kind)


def _errors(part: AnswerPart) -> Any:
    if part.error is None:
        return pa.nulls(part.rows, ERROR_TYPE)
    return pa.array([part.error._asdict()] * part.rows, ERROR_TYPE)


def _record(part: AnswerPart, digest_of: DigestOf) -> tuple[Any, ...]:
    """One value for each column of `RECORD`."""
    if part.answer is None:
        return None, None, None, None, part.time_us
    model, version = part.answer.model, part.answer.version
    return model, int(version), digest_of(model, version), part.id, part.time_us
