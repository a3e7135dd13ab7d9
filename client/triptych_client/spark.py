"""Schemas of Arrow as Spark reads them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
import pyarrow.types as kinds

from triptych_client.columns.types import is_list
from triptych_client.errors import InvalidColumns

_WORDS: Final[Mapping[Any, str]] = MappingProxyType(
    {
        pa.bool_(): "boolean",
        pa.int8(): "tinyint",
        pa.int16(): "smallint",
        pa.int32(): "int",
        pa.int64(): "bigint",
        pa.float32(): "float",
        pa.float64(): "double",
        pa.string(): "string",
        pa.large_string(): "string",
        pa.binary(): "binary",
        pa.large_binary(): "binary",
        pa.date32(): "date",
        pa.null(): "void",
    }
)


def ddl_of(schema: Any) -> str:
    """A schema in Spark's DDL: `units array<bigint>`. Raises `InvalidColumns` for types that Spark has not."""
    words = {field.name: _word(field.type) for field in schema}
    if faults := [
        f"column '{name}' is {schema.field(name).type}, which Spark has not; leave it out of `keep` or `outputs`"
        for name, word in words.items()
        if not word
    ]:
        raise InvalidColumns(faults)
    return ", ".join(f"{_quoted(name)} {word}" for name, word in words.items())


def _word(kind: Any) -> str:
    """The name of a type in Spark; '' for one that it has not."""
    if kinds.is_timestamp(kind):
        return "timestamp" if kind.tz else "timestamp_ntz"
    if kinds.is_decimal128(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if kinds.is_struct(kind):
        inner = [(field.name, _word(field.type)) for field in kind]
        fields = ", ".join(f"{_quoted(name)}: {word}" for name, word in inner)
        return f"struct<{fields}>" if all(word for _, word in inner) else ""
    if is_list(kind) and not kinds.is_fixed_size_list(kind):
        return f"array<{word}>" if (word := _word(kind.value_type)) else ""
    return _WORDS.get(kind, "")


def _quoted(name: str) -> str:
    escaped = name.replace("`", "``")
    return f"`{escaped}`"
