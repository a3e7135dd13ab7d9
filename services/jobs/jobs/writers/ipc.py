"""The answers of a part as one object: a stream of Arrow IPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jobs.writers.part import ERROR, FILE, ROW


class IpcWriter:
    """Writes rows with their place, answers and, where bad rows are kept, their error. A bad row has no answer."""

    def __init__(self, answers: Any) -> None:
        """`answers` is the schema of the answers."""
        self._schema = pa.schema([pa.field(FILE, pa.string()), pa.field(ROW, pa.int64()), *answers])
        self._buffer = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._buffer, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        self.rows = self.bad_rows = 0

    def write(self, answers: Any, files: Any, rows: Any) -> None:
        """Add answers of rows."""
        self._writer.write_batch(pa.RecordBatch.from_arrays([files, rows, *answers.columns], schema=self._schema))
        count = answers.num_rows
        bad = count - answers.column(ERROR).null_count if ERROR in answers.schema.names else 0
        self.rows, self.bad_rows = self.rows + count - bad, self.bad_rows + bad

    def write_bad(self, files: Any, rows: Any, codes: Sequence[str], texts: Sequence[str]) -> None:
        """Add rows that could not be read."""
        errors = [{"code": code, "text": text} for code, text in zip(codes, texts, strict=True)]
        known = {FILE: files, ROW: rows, ERROR: errors}
        columns = [
            pa.array(known[field.name], field.type) if field.name in known else pa.nulls(len(errors), field.type)
            for field in self._schema
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.bad_rows += len(errors)

    def content(self) -> bytes:
        """The whole stream, once."""
        self._writer.close()
        found: bytes = self._buffer.getvalue().to_pybytes()
        return found
