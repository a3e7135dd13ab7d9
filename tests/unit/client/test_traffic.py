"""Rows by the version of their traffic keys, and back in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_client import Ask, InvalidColumns, InvalidOptions
from triptych_client.traffic import KEYS_AT_ONCE, TrafficKeys


class Versions:
    """A server that chooses a version by the length of a key, and the calls that it got."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, keys: Sequence[str]) -> Sequence[str]:
        self.calls.append(list(keys))
        return [str(len(key) % 3) for key in keys]


def table(keys: Any) -> Any:
    return pa.table({"key": keys, "row": pa.array(range(len(keys)))})


@given(st.lists(st.none() | st.text(alphabet="abä", max_size=5), max_size=30))
def test_rows_of_a_version_stand_together_and_come_back_in_their_order(keys: list[str | None]) -> None:
    found = TrafficKeys("key", Versions()).sort(table(pa.array(keys, pa.string())))
    answered = []
    for start, end, version in found.ranges:
        some = found.table.slice(start, end - start)
        assert {str(len(key) % 3) if key else None for key in some.column("key").to_pylist()} == {version}
        answered += some.column("row").to_pylist()
    assert sorted(answered) == list(range(len(keys)))
    assert len({version for _, _, version in found.ranges}) == len(found.ranges)
    assert found.in_order(found.table).column("row").to_pylist() == list(range(len(keys)))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.int16(), pa.dictionary(pa.int8(), pa.string())])
def test_keys_are_texts_or_whole_numbers_in_any_chunks(kind: Any) -> None:
    values = [1, 22, 333, 1] if pa.types.is_integer(kind) else ["1", "22", "333", "1"]
    chunks = pa.chunked_array([pa.array(values[:1]).cast(kind), pa.array(values[1:]).cast(kind)])
    versions = Versions()
    keys = TrafficKeys("key", versions)
    keys.check(table(chunks).schema)
    assert [each.version for each in keys.sort(table(chunks)).ranges] == ["1", "2", "0"]
    assert versions.calls == [["1", "22", "333"]]


def test_a_key_is_asked_for_once_and_many_in_several_calls() -> None:
    versions = Versions()
    keys = [str(number) for number in range(2 * KEYS_AT_ONCE + 1)] * 2
    TrafficKeys("key", versions).sort(table(pa.array(keys)))
    assert [len(call) for call in versions.calls] == [KEYS_AT_ONCE, KEYS_AT_ONCE, 1]


@pytest.mark.parametrize(
    ("column", "kind", "says"),
    [("no", pa.string(), "'no' of `traffic_key` is not there"), ("key", pa.float32(), "got float")],
)
def test_another_column_is_refused_before_any_row(column: str, kind: Any, says: str) -> None:
    with pytest.raises(InvalidColumns, match=says):
        TrafficKeys(column, Versions()).check(pa.schema([("key", kind)]))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"address": "a:1", "traffic_key": "key", "version": 2}, "either `version` or `traffic_key`"),
        ({"repository": "models", "traffic_key": "key"}, "a folder has no traffic"),
        ({"repository": "models", "background": True}, "a folder has no traffic"),
        ({"address": "a:1", "parameters": {"triptych_background": True}}, "'triptych_background' is reserved"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOptions, match=says):
        Ask("m", **options)
