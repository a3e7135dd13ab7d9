"""Schemas in the words of Spark, as its documentation has them ("Data Types")."""

from __future__ import annotations

import pyarrow as pa
import pytest

from local.stack import MODEL_REPOSITORY
from tests.tables import pictures_table
from triptych_client import Ask, InvalidColumns
from triptych_client.spark import ddl_of


def test_answers_have_a_schema_for_spark() -> None:
    with Ask("digits_de", repository=MODEL_REPOSITORY, text=["label"], on_bad_rows="keep", records=True) as ask:
        assert ask.spark_schema(pictures_table(1).schema) == (
            "`label` array<string>, `score` array<float>, `class_id` array<int>, "
            "`error` struct<`code`: string, `text`: string>, `triptych_model` string, `triptych_version` bigint, "
            "`triptych_contract` string, `triptych_id` string, `triptych_time` timestamp"
        )


def test_names_are_quoted_and_types_have_their_parameters() -> None:
    fields = [("a `b`", pa.decimal128(9, 2)), ("t", pa.timestamp("ms")), ("m", pa.large_list(pa.list_(pa.binary())))]
    assert ddl_of(pa.schema(fields)) == "`a ``b``` decimal(9,2), `t` timestamp_ntz, `m` array<array<binary>>"


@pytest.mark.parametrize(
    "kind", [pa.uint8(), pa.float16(), pa.list_(pa.uint64()), pa.list_(pa.int8(), 2), pa.struct([("a", pa.uint8())])]
)
def test_types_that_spark_has_not_are_refused_by_the_column(kind: pa.DataType) -> None:
    with pytest.raises(InvalidColumns, match="column 'x' is .* which Spark has not"):
        ddl_of(pa.schema([("x", kind), ("y", pa.int8())]))
