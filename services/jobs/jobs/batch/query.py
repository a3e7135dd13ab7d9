"""SQL over the records of a run, by DuckDB in the process. It reads them and nothing else, by one statement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow.dataset as ds

from jobs.batch.errors import BatchError
from jobs.batch.manifest import Manifest, read_manifest
from jobs.batch.output import ERRORS_FILE
from jobs.writers.part import FILE, ROW
from triptych.contract.reading.files import printable_path

# Locked before the statement: https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
_CONFIGURATION: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
_OF_INPUTS: Final = (FILE, ROW, "triptych_id")
_READING: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def query(output: Path, statement: str) -> Any:
    """The `pyarrow.Table` of a SELECT over `records`, `errors` and `inputs`. Raises `BatchError`."""
    manifest, datasets = opened(output)
    views = [*datasets, *(["inputs"] if manifest.inputs else [])]
    with duckdb.connect(":memory:", config=_CONFIGURATION) as connection:  # type: ignore[arg-type]
        for name, dataset in datasets.items():
            connection.register(name, dataset)
        if manifest.inputs:
            columns = ", ".join('"' + name.replace('"', '""') + '"' for name in (*_OF_INPUTS, *manifest.inputs))
            connection.execute(f"CREATE VIEW inputs AS SELECT {columns} FROM records")
        connection.execute("SET lock_configuration = true")
        try:
            statements = connection.extract_statements(statement)
            if len(statements) != 1 or statements[0].type not in _READING:
                raise BatchError("want one SELECT over " + ", ".join(views))
            return connection.sql(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            raise BatchError(_reason(error, output, views)) from None


def opened(output: Path) -> tuple[Manifest, dict[str, Any]]:
    """The manifest and the datasets of an output: `records`, and `errors` if the run kept bad rows.

    Raises `BatchError`.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise BatchError(f"{printable_path(output)}: want the output of a run, a folder with _manifest.json")
    parts = sorted(str(file) for file in output.glob("part-*.parquet"))
    datasets = {"records": ds.dataset(parts, format="parquet")}
    if (output / ERRORS_FILE).exists():
        datasets["errors"] = ds.dataset(str(output / ERRORS_FILE), format="parquet")
    return manifest, datasets


def _reason(error: duckdb.Error, output: Path, views: Sequence[str]) -> str:
    text = str(error).partition("\n\nLINE")[0]
    if "file system operations are disabled" in text or "configuration has been locked" in text:
        return f"a query reads {', '.join(views)} of {printable_path(output)} and nothing else: {text}"
    return text
