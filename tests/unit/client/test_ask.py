"""`Ask` with a folder of models: columns in, columns out, and rows that cannot be answered."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from local.stack import MODEL_REPOSITORY
from tests import onnx_files as onnx
from tests.model_folders import publish
from tests.tables import pictures_table, sales_table
from triptych.contract import load_contract
from triptych_client import Ask, InvalidColumns, InvalidOptions, RefusedRow, RequestFailed

OPEN = """\
apiVersion: triptych.dev/v1
kind: Contract
family: signals
max_rows: 8
inputs:
  - {name: x, datatype: FP32, shape: [-1, -1], maximum: 99}
model:
  inputs: [{name: x, datatype: FP32, shape: [-1, -1]}]
  outputs: [{name: y, datatype: FP32, shape: [-1, -1]}]
outputs:
  - {name: y, datatype: FP32, shape: [-1, -1]}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """`sums` answers y = [a + b, a + b] to x = [a, b], 4 rows at once; `same` answers rows of any length."""
    publish(tmp_path, "sums", route="DE")
    version = publish(tmp_path, "same")
    (version / "contract.yaml").write_text(OPEN)
    (version / "model.onnx").write_bytes(onnx.identity(onnx.FLOAT, "n", "m"))
    config = version.parent / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 2 ]", "dims: [ -1 ]").replace("size: 4", "size: 8"))
    return tmp_path


def sums(models: Path, **options: Any) -> Ask:
    return Ask("sums", repository=models, **options)


def pairs(*values: float) -> Any:
    return pa.table({"x": pa.array([[value, 1.0] for value in values], pa.list_(pa.float32()))})


def test_a_batch_is_answered_by_a_batch_and_a_table_by_a_table(models: Path) -> None:
    table = pairs(1, 2, 3, 4, 5)
    with sums(models) as ask:
        answer = ask(table)
        assert isinstance(answer, pa.Table)
        assert answer["y"].to_pylist() == [[2, 2], [3, 3], [4, 4], [5, 5], [6, 6]]
        (batch,) = table.to_batches()
        assert isinstance(ask(batch), pa.RecordBatch)
        assert ask(batch)["y"].to_pylist() == answer["y"].to_pylist()
        assert [each["y"].to_pylist() for each in ask(iter([batch, table.slice(3)]))] == [
            answer["y"].to_pylist(),
            [[5, 5], [6, 6]],
        ]


@pytest.mark.parametrize("data", [{"x": [[1.0, 2.0]]}, [1], "x", None])
def test_other_data_than_that_of_arrow_is_refused(models: Path, data: Any) -> None:
    with sums(models) as ask:
        with pytest.raises(TypeError, match="want a RecordBatch or Table of pyarrow"):
            ask(data)
        with pytest.raises(TypeError, match="want a RecordBatch or Table of pyarrow"):
            list(ask.over([data]))


def test_no_rows_are_answered_by_no_rows_of_the_same_schema(models: Path) -> None:
    empty = pairs(1).slice(0, 0)
    with sums(models, records=True, on_bad_rows="keep") as ask:
        assert ask(empty).schema == ask(pairs(1)).schema == ask.schema(empty.schema)
        assert ask(empty).num_rows == 0
        assert ask(pa.RecordBatch.from_pylist([], empty.schema)).schema == ask.schema(empty.schema)
        assert list(ask.over([])) == []


def test_slices_and_chunks_are_answered_as_the_rows_that_they_are() -> None:
    whole = sales_table(60)
    chunks = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 0), whole.slice(7, 40), whole.slice(47)])
    odd = pa.table({name: whole[name].combine_chunks().slice(13, 9) for name in whole.column_names})
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["shop"], max_rows=16) as ask:
        answers = ask(whole)
        assert ask(chunks).to_pylist() == answers.to_pylist()
        assert ask(odd).to_pylist() == answers.slice(13, 9).to_pylist()


def test_columns_may_have_any_names(models: Path) -> None:
    table = pa.table({"größe ✓": pairs(1, 2)["x"], "y": ["a", "b"]})
    with sums(models, columns={"x": "größe ✓"}, keep=["y", "größe ✓"], outputs={"y": "прогноз"}) as ask:
        assert ask(table).to_pylist() == [
            {"y": "a", "größe ✓": [1, 1], "прогноз": [2, 2]},
            {"y": "b", "größe ✓": [2, 1], "прогноз": [3, 3]},
        ]


def test_all_faults_of_the_columns_are_listed_before_the_first_row() -> None:
    table = pa.table({"history": [["a"]], "promotion": [[True] * 7], "shop": ["Bonn"], "x": [1]})
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, keep=["shop", "day"], columns={"y": "z"}) as ask:
        for check, columns in ((ask, table), (ask.schema, table.schema)):
            with pytest.raises(InvalidColumns) as caught:
                check(columns)
            assert [fault.partition(":")[0] for fault in caught.value.faults] == [
                "'y' of `columns` is no input of the model; there are",
                "input 'history'",
                "input 'price'",
                "column 'day' of `keep` is not there",
                "column 'x' is no input; name it in `keep`, or ask with `ignore_others=True`",
            ]
        assert "want FP32[n,28] as lists of numbers, got list<item: string>" in str(caught.value)


def test_a_name_that_two_columns_would_have_is_refused(models: Path) -> None:
    table = pairs(1).append_column("y", [["a"]])
    with sums(models, keep="all") as ask, pytest.raises(InvalidColumns, match="column 'y' would be there twice"):
        ask(table)
    twice = pa.Table.from_arrays([pairs(1)["x"]] * 2, ["x", "x"])
    with sums(models) as ask, pytest.raises(InvalidColumns, match="column 'x' is there 2 times"):
        ask(twice)


def test_other_columns_are_kept_or_ignored_by_choice(models: Path) -> None:
    table = pairs(1).append_column("day", [["Monday"]])
    with sums(models, keep="all") as ask:
        assert ask(table).column_names == ["x", "day", "y"]
    with sums(models, ignore_others=True) as ask:
        assert ask(table).column_names == ["y"]
    with sums(models) as ask, pytest.raises(InvalidColumns):
        ask(table)


def test_an_optional_input_may_have_no_column_and_no_null() -> None:
    with Ask("digits_de", repository=MODEL_REPOSITORY) as ask:
        table = pictures_table(2)
        without = ask(table)
        boxed = table.append_column("box", pa.array([[0, 0, 9, 9], [0, 0, 9, 9]]))
        assert ask(boxed)["score"].to_pylist() != without["score"].to_pylist()
        with pytest.raises(RefusedRow, match="row 1: INVALID_ARGUMENT: input 'box': want a value in .* got null"):
            ask(table.append_column("box", pa.array([[0, 0, 9, 9], None])))


@pytest.mark.parametrize("max_rows", [None, 1, 100])
def test_rows_that_cannot_be_answered_are_kept_with_their_reason(models: Path, max_rows: int | None) -> None:
    values = [float(value) for value in range(12)]
    bad = {2: float("nan"), 3: float("inf"), 11: None}
    rows = [[bad.get(row, value), 1.0] for row, value in enumerate(values)]
    table = pa.table({"x": pa.array(rows, pa.list_(pa.float64())), "row": range(12)})
    with sums(models, on_bad_rows="keep", keep=["row"], records=True, max_rows=max_rows) as ask:
        answers = ask(table).to_pylist()
    assert [answer["row"] for answer in answers] == list(range(12))
    assert [answer["row"] for answer in answers if answer["error"]] == list(bad)
    for answer in answers:
        if answer["row"] in bad:
            assert answer["y"] is answer["triptych_version"] is answer["triptych_id"] is None
            assert answer["error"]["code"] == "INVALID_ARGUMENT"
            assert "row" not in answer["error"]["text"]
        else:
            assert answer["y"] == [answer["row"] + 1.0] * 2
            assert answer["triptych_version"] == 1
    with sums(models, keep=["row"]) as ask, pytest.raises(RefusedRow) as caught:
        ask(table)
    assert (caught.value.row, caught.value.code) == (2, "INVALID_ARGUMENT")


def test_rows_of_different_lengths_are_asked_with_their_like(models: Path) -> None:
    rows = [[1.0], [2.0], [1.0, 2.0], [3.0, 4.0], [5.0], [100.0], [6.0], [7.0] * 5]
    table = pa.table({"x": pa.array(rows, pa.list_(pa.float32()))})
    with Ask("same", repository=models, on_bad_rows="keep", records=True) as ask:
        answers = ask(table)
    assert answers["y"].to_pylist() == [*rows[:5], None, *rows[6:]]
    ids = answers["triptych_id"].to_pylist()
    assert ids[0] == ids[1] != ids[2] == ids[3] != ids[4]


@pytest.mark.parametrize(
    ("limits", "requests"),
    [
        ({}, 3),
        ({"max_rows": 2}, 6),
        ({"max_rows": 5}, 3),
        ({"max_rows": 50}, 1),  # more than the contract's, which a server refuses
        ({"max_bytes": 16}, 6),
        ({"max_bytes": 1}, 12),
    ],
)
def test_a_request_has_at_most_so_many_rows_and_bytes(models: Path, limits: dict[str, int], requests: int) -> None:
    with sums(models, records=True, **limits) as ask:
        assert len(set(ask(pairs(*range(12)))["triptych_id"].to_pylist())) == requests


def test_bytes_are_counted_in_columns_that_share_them_too() -> None:
    table = pictures_table(6)
    shared = pa.table({"image": table["image"].combine_chunks().dictionary_encode()})
    largest = max(map(len, table["image"].to_pylist()))
    with Ask("digits_de", repository=MODEL_REPOSITORY, records=True, max_bytes=largest) as ask:
        for each in (table, shared):
            assert len(set(ask(each)["triptych_id"].to_pylist())) >= 4
        assert ask(table)["score"].to_pylist() == ask(shared)["score"].to_pylist()


def test_batches_are_answered_in_order_and_not_read_far_ahead(models: Path) -> None:
    read = 0

    def batches() -> Iterator[Any]:
        nonlocal read
        for number in range(50):
            read += 1
            yield pairs(number, number)

    with sums(models, in_flight=3) as ask:
        for number, answer in enumerate(ask.over(batches())):
            assert answer["y"].to_pylist() == [[number + 1.0] * 2] * 2
            assert read <= number + 5
    assert read == 50


def test_the_first_bad_batch_ends_an_iteration(models: Path) -> None:
    batches = [pairs(1), pairs(2, float("nan")), *[pairs(3)] * 100]
    left = iter(batches)
    with sums(models, in_flight=2) as ask:
        answers = ask.over(left)
        assert next(answers)["y"].to_pylist() == [[2, 2]]
        with pytest.raises(RefusedRow) as caught:
            list(answers)
        assert caught.value.row == 1
        assert len(list(left)) > 90
        assert ask(pairs(1)).num_rows == 1  # and what was left is no burden


def test_an_iteration_may_be_left(models: Path) -> None:
    with sums(models) as ask:
        for answer in ask.over([pairs(1)] * 5):
            assert answer.num_rows == 1
            break
        assert ask(pairs(2))["y"].to_pylist() == [[3, 3]]


def test_many_threads_may_ask(models: Path) -> None:
    with sums(models, in_flight=2) as ask, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, [pairs(*[number] * 9) for number in range(40)]))
    assert [answer["y"].to_pylist() for answer in answers] == [[[number + 1.0] * 2] * 9 for number in range(40)]


async def test_an_event_loop_may_ask(models: Path) -> None:
    with sums(models) as ask:
        answers = await asyncio.gather(*[ask.call_async(pairs(number)) for number in range(5)])
    assert [answer["y"].to_pylist() for answer in answers] == [[[number + 1.0] * 2] for number in range(5)]


def test_it_goes_to_other_processes_before_and_after_its_use(models: Path) -> None:
    ask = sums(models, keep=["x"])
    batches = [pairs(number) for number in range(3)]
    again = pickle.loads(pickle.dumps(ask))
    expected = [again(batch) for batch in batches]  # used, with a session that no other process has
    with again, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        for each in (ask, again):
            assert list(processes.map(each, batches)) == expected
        with pytest.raises(RefusedRow) as caught:
            processes.submit(ask, pairs(1, float("nan"))).result()
        assert (caught.value.row, caught.value.code) == (1, "INVALID_ARGUMENT")


def test_a_version_is_kept_by_what_was_pickled(models: Path) -> None:
    ask = sums(models, records=True)
    assert ask.version == "1"
    published = publish(models, "sums", version=2, route="DE")
    for each, version in ((ask, 1), (pickle.loads(pickle.dumps(ask)), 1), (sums(models, records=True), 2)):
        with each:
            assert each(pairs(1))["triptych_version"].to_pylist() == [version]
    with sums(models, records=True, version=2) as ask:
        digest = ask(pairs(1))["triptych_contract"].to_pylist()
    assert digest == [load_contract(published / "contract.yaml").digest()]


def test_it_can_be_used_again_after_it_was_closed(models: Path) -> None:
    ask = sums(models)
    for _ in range(2):
        assert ask(pairs(1)).num_rows == 1
        ask.close()
    ask.close()


@pytest.mark.parametrize(
    ("model", "options", "code", "text"),
    [
        ("none", {}, "NOT_FOUND", "config.pbtxt"),
        ("sums", {"version": 7}, "NOT_FOUND", "no version '7'; known: 1"),
        ("../sums", {}, "NOT_FOUND", "config.pbtxt"),
        ("broken", {}, "FAILED_PRECONDITION", "broken"),
    ],
)
def test_a_folder_without_the_model_is_named(
    models: Path, model: str, options: dict[str, Any], code: str, text: str
) -> None:
    version = publish(models, "broken")
    (version / "model.onnx").write_bytes(b"no model")
    with Ask(model, repository=models, **options) as ask, pytest.raises(RequestFailed, match=text) as caught:
        ask(pairs(1))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"address": "a:1"}, "want either"),
        ({"repository": None}, "want either"),
        ({"on_bad_rows": "drop"}, "on_bad_rows: want one of refuse, keep"),
        ({"max_rows": 0}, "max_rows: want at least 1, got 0"),
        ({"max_bytes": -1}, "max_bytes: want"),
        ({"in_flight": 0}, "in_flight: want"),
        ({"max_answer_bytes": 0}, "max_answer_bytes: want"),
        ({"timeout_s": 0}, "timeout_s: want"),
        ({"retry_s": -1}, "retry_s: want"),
        ({"connect_s": float("nan")}, "connect_s: want"),
        ({"version": "production"}, "a folder has no aliases"),
        ({"version": 0}, "a folder has no aliases"),
        ({"version": True}, "version: want a number"),
        ({"version": ""}, "version: want a number"),
        ({"parameters": {"alias": "production"}}, "'alias' is reserved"),
        ({"parameters": {"triptych_x": 1}}, "'triptych_x' is reserved"),
        ({"metadata": {"a": "b"}}, "for an `address`"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidOptions, match=text):
        Ask("sums", **{"repository": MODEL_REPOSITORY, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"outputs": ["z"]}, "outputs: the model has no output 'z'; there are: y"),
        ({"text": ["z"]}, "text: the model has no output 'z'"),
        ({"text": ["y"]}, "text: output 'y' is FP32, want BYTES"),
    ],
)
def test_outputs_that_the_model_has_not_are_refused(models: Path, options: dict[str, Any], text: str) -> None:
    with sums(models, **options) as ask, pytest.raises(InvalidOptions, match=text):
        ask(pairs(1))


def test_some_outputs_are_enough() -> None:
    with Ask("sales_forecast_de", repository=MODEL_REPOSITORY, outputs=["total"], ignore_others=True) as ask:
        assert ask(sales_table(3)).column_names == ["total"]


def test_a_table_may_have_longer_texts_than_one_batch(models: Path) -> None:
    """Chunks whose bytes together are more than one array of 32-bit offsets holds are never joined."""
    chunk = pa.array([b"x" * (1 << 20)] * 64, pa.binary())
    table = pa.table({"x": pairs(*range(64 * 40))["x"], "text": pa.chunked_array([chunk] * 40)})
    with sums(models, keep=["text"], max_rows=1000) as ask:
        assert ask(table).num_rows == 64 * 40
