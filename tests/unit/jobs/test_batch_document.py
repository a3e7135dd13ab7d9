"""The batch document: what it holds, and the sentence for each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.batch.document import DocumentError, document_schema_text, parse_job, read_document

GOOD = """\
apiVersion: triptych.dev/v1
kind: Batch
model: sales_forecast_de
version: production
home: {address: "localhost:9000"}
read: {uri: data/*.parquet}
columns: {history: units}
keep: [shop]
onBadRows: keep
write: {parquet: out/forecasts, inputs: true}
limits: {partRows: 1000}
"""

JOB = """\
apiVersion: triptych.dev/v1
kind: Job
model: sales_forecast_de
read: {{uri: "upload://sales", format: parquet}}
limits: {limits}
"""


def written(folder: Path, text: str) -> Path:
    (folder / "nightly.yaml").write_text(text)
    return folder / "nightly.yaml"


def faults_of(folder: Path, text: str) -> list[str]:
    with pytest.raises(DocumentError) as refused:
        read_document(written(folder, text))
    return [line.removeprefix(f"{folder}/") for line in refused.value.lines]


def test_a_document_is_read_with_its_defaults(tmp_path: Path) -> None:
    document = read_document(written(tmp_path, GOOD))
    assert (document.model, document.version, document.read.uri) == (
        "sales_forecast_de",
        "production",
        ("data/*.parquet",),
    )
    assert (document.on_bad_rows, document.write.inputs, document.limits.part_rows) == ("keep", True, 1000)
    assert (document.allow_rounding, document.limits.max_files, document.home.in_flight) == (False, 100_000, None)


def test_the_same_values_in_another_order_are_the_same_document(tmp_path: Path) -> None:
    one = read_document(written(tmp_path, GOOD))
    other = read_document(written(tmp_path, "\n".join(reversed(GOOD.splitlines())) + "  # a comment"))
    assert one.canonical == other.canonical
    assert read_document(written(tmp_path, GOOD.replace("1000", "1001"))).canonical != one.canonical


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("kind: Batch", "kind: Job", "nightly.yaml:2: kind: want 'Batch', got 'Job'"),
        ("model: sales_forecast_de\n", "", "nightly.yaml:1: model: is missing"),
        ("version: production", "version: 0", "nightly.yaml:4: version: want a number from 1, or an alias: a name"),
        ("version: production", "version: latest", "nightly.yaml:4: version: want a number from 1, or an alias"),
        ("version: production", "version: true", "nightly.yaml:4: version: want a number from 1, or an alias"),
        (
            "version: production",
            "version: {traffic: {key: shop}}",
            "nightly.yaml:4: version: want a number or an alias; `trafficKey` names the column of a split by traffic",
        ),
        (
            "version: production",
            "version: production\ntrafficKey: shop",
            "nightly.yaml:1: want either version or trafficKey, by which each row has its own",
        ),
        (
            'version: production\nhome: {address: "localhost:9000"}',
            "trafficKey: shop\nhome: {repository: models}",
            "nightly.yaml:1: trafficKey is for an address, a repository has no traffic",
        ),
        ("{address: ", "{repository: models, address: ", "nightly.yaml:5: home: want either repository, a folder"),
        ('{address: "localhost:9000"}', "{}", "nightly.yaml:5: home: want either repository, a folder of models"),
        ('{address: "localhost:9000"}', "{repository: m, tls: {}}", "nightly.yaml:5: home: tls is for an address"),
        ("{uri: data/*.parquet}", "{uri: []}", "nightly.yaml:6: read.uri: want at least 1 item, got 0"),
        (
            "{uri: data/*.parquet}",
            "{uri: a, delimiter: ab}",
            "nightly.yaml:6: read.delimiter: want at most 1 character",
        ),
        ("{uri: data/*.parquet}", "{uri: a, types: {a: text}}", "nightly.yaml:6: read.types.a: want 'bool', 'int8'"),
        ("{history: units}", "{history: []}", "nightly.yaml:7: columns.history: want a column, or a list of columns"),
        ("{history: units}", "{history: [1]}", "nightly.yaml:7: columns.history: want a column, or a list of columns"),
        ("keep: [shop]", "keep: shop", "nightly.yaml:8: keep: want a list, got 'shop'"),
        ("onBadRows: keep", "onBadRows: skip", "nightly.yaml:9: onBadRows: want 'refuse' or 'keep', got 'skip'"),
        ("onBadRows: keep", "on_bad_rows: keep", "nightly.yaml:9: on_bad_rows: unknown field; known: allowRounding"),
        ("{parquet: out/forecasts, ", "{", "nightly.yaml:10: write: want either parquet, a folder, or postgres"),
        (
            "{parquet: out/forecasts, inputs: true}",
            "{postgres: {table: a; drop table b, key: [a]}}",
            "nightly.yaml:10: write.postgres.table: want a table as in forecasts or sales.forecasts, got",
        ),
        ("partRows: 1000", "partRows: 0", "nightly.yaml:11: limits.partRows: want at least 1, got 0"),
        ("partRows: 1000", "rows: 5", "nightly.yaml:11: limits.rows: unknown field; known: batchBytes"),
        ("model: ", "model: a\nmodel: ", "nightly.yaml:4: model: given twice"),
    ],
)
def test_a_fault_has_its_line_its_field_and_what_is_wanted(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in GOOD
    (found,) = faults_of(tmp_path, GOOD.replace(old, new, 1))
    assert found.startswith(fault)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, GOOD.replace("kind: Batch", "kind: B").replace("keep: [shop]", "keep: 1"))
    assert [fault.partition(": ")[0] for fault in faults] == ["nightly.yaml:2", "nightly.yaml:8"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "nightly.yaml:1: a batch document is a mapping"),
        ("- a", "nightly.yaml:1: a batch document is a mapping"),
        ("a: [", "nightly.yaml:2: not YAML"),
        ("a: &x 1\nb: *x", "nightly.yaml:2: b: YAML anchors and aliases are not allowed"),
        ("#" * (257 << 10), "nightly.yaml:1: larger than"),
    ],
)
def test_a_file_that_is_no_document_is_refused_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, text)[0].startswith(fault)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"gone.yaml:1: cannot be read: No such file"):
        read_document(tmp_path / "gone.yaml")


def test_the_schema_in_docs_is_that_of_the_classes() -> None:
    assert (Path(__file__).parents[3] / "docs/batch.schema.json").read_text("utf-8") == document_schema_text()


def test_a_job_may_lower_the_limits_and_not_raise_them() -> None:
    text = JOB.format(limits="{partRows: 10, maxRowGroupBytes: 1073741824}")
    assert parse_job(text).limits.part_rows == 10
    with pytest.raises(DocumentError, match="maxRowGroupBytes: want at most 1073741824 in a job, got 1073741825"):
        parse_job(JOB.format(limits="{maxRowGroupBytes: 1073741825}"))
