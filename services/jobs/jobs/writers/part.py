"""The files of one part: records, and the rows that have none."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.durable_files import sync

FILE, ROW, ERROR = "triptych_file", "triptych_row", "error"
ERRORS: Final = pa.schema([(FILE, pa.string()), (ROW, pa.int64()), ("code", pa.string()), ("sentence", pa.string())])
COMPRESSION: Final = "zstd"


def records_schema(answers: Any) -> Any:
    """Schema of the records by that of the answers: without `error`, with the file and row of each."""
    fields = [field for field in answers if field.name != ERROR]
    return pa.schema([pa.field(FILE, pa.string()), pa.field(ROW, pa.int64()), *fields])


class PartWriter:
    """Writes the answers of one part. The files have their names only after `close`, and then they are durable."""

    def __init__(self, records: Path, errors: Path, answers: Any) -> None:
        self._records, self._errors, self._schema = records, errors, records_schema(answers)
        self._temporary = records.with_name(f".{records.name}")
        self._writer = pq.ParquetWriter(self._temporary, self._schema, compression=COMPRESSION)
        self._bad: list[Any] = []
        self.rows = self.bad_rows = 0

    def write(self, answers: Any, files: Any, rows: Any) -> None:
        """Add answers of rows of files, which are arrays. A row whose `error` is not null goes to the errors."""
        place = {FILE: files, ROW: rows}
        columns = [place[name] if name in place else answers.column(name) for name in self._schema.names]
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if ERROR in answers.schema.names and answers.column(ERROR).null_count < len(answers.column(ERROR)):
            error = answers.column(ERROR)
            is_bad = pc.is_valid(error)
            self._add_bad([place[FILE].filter(is_bad), place[ROW].filter(is_bad), *error.filter(is_bad).flatten()])
            batch = batch.filter(pc.invert(is_bad))
        if batch.num_rows:
            self._writer.write_batch(batch)
            self.rows += batch.num_rows

    def write_bad(self, files: Any, rows: Any, codes: Sequence[str], texts: Sequence[str]) -> None:
        """Add rows that could not be read."""
        self._add_bad([files, rows, codes, texts])

    def close(self) -> None:
        """Make both files durable and give them their names."""
        self._writer.close()
        sync(self._temporary)
        if self._bad:
            pq.write_table(pa.Table.from_batches(self._bad, ERRORS).sort_by(ROW), self._errors, compression=COMPRESSION)
            sync(self._errors)
        self._temporary.rename(self._records)
        sync(self._records.parent)

    def abandon(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # of a full disk
            self._writer.close()
        self._temporary.unlink(missing_ok=True)

    def _add_bad(self, columns: Sequence[Any]) -> None:
        arrays = [pa.array(column, field.type) for column, field in zip(columns, ERRORS, strict=True)]
        self._bad.append(pa.RecordBatch.from_arrays(arrays, schema=ERRORS))
        self.bad_rows += len(arrays[0])
