"""Finding and opening files: globs, folders, what a policy refuses, files that change."""

from __future__ import annotations

import os
from pathlib import Path

import google_crc32c
import pytest

from jobs.objects import Objects
from jobs.readers.errors import SourceChanged, SourceError, SourceRefused
from jobs.readers.sources import SourcePolicy, Sources
from jobs.upload_files import StoredUploads
from jobs.uploads import Uploads
from tests.unit.jobs.reading import dataset_of, rows_of
from triptych.errors import InvalidRequest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "de/_tmp").mkdir(parents=True)
    for name in ("b.csv", "a.csv", "de/c.csv", ".hidden.csv", "_SUCCESS", "de/_tmp/d.csv"):
        (folder / name).write_text(f"n\n{len(name)}\n")
    return folder


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["a.csv", "b.csv", "de/c.csv"]),
        ("*.csv", ["a.csv", "b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "de/c.csv"]),
        ("[ab].csv", ["a.csv", "b.csv"]),
        ("b.csv", ["b.csv"]),
        (".hidden.csv", [".hidden.csv"]),
    ],
)
def test_files_come_by_name_without_hidden_ones(data: Path, pattern: str, names: list[str]) -> None:
    found = Sources().find([f"{data}/{pattern}".rstrip("/")])
    assert [os.path.relpath(file.uri, data) for file in found] == names


def test_a_file_that_two_uris_name_is_read_once(data: Path) -> None:
    assert len(Sources().find([f"{data}/a.csv", f"file://{data}/*.csv"])) == 2


def test_a_file_whose_name_has_the_signs_of_a_glob_is_itself(data: Path) -> None:
    (data / "x[1].csv").write_text("n\n7\n")
    assert rows_of(dataset_of(data / "x[1].csv")) == [{"n": 7}]


@pytest.mark.parametrize("uri", ["nothing.csv", "*.parquet", "de/_tmp/no/*"])
def test_no_file_is_refused_by_its_uri(data: Path, uri: str) -> None:
    with pytest.raises(SourceRefused, match="no file is there"):
        Sources().find([f"{data}/{uri}"])


def test_more_files_than_the_limit_are_refused(data: Path) -> None:
    with pytest.raises(SourceRefused, match=r"more than 2 files \(limits.maxFiles\)"):
        dataset_of(data, limits={"max_files": 2})
    assert len(dataset_of(data, limits={"max_files": 3}).files) == 3


def test_a_scheme_outside_the_list_is_refused() -> None:
    with pytest.raises(SourceRefused, match="want one of the schemes file, s3, gs, got http"):
        Sources().find(["http://example.org/a.csv"])
    with pytest.raises(SourceRefused, match="want one of the schemes s3, got file"):
        Sources(SourcePolicy(schemes=("s3",))).find(["/etc/hostname"])


@pytest.mark.parametrize("way", ["straight", "parts", "link", "folder link"])
def test_a_file_outside_of_the_prefixes_is_refused_by_every_way(data: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/s.csv").write_text("n\n1\n")
    os.symlink(tmp_path / "secret/s.csv", data / "link.csv")
    os.symlink(tmp_path / "secret", data / "away")
    ways = {
        "straight": tmp_path / "secret/s.csv",
        "parts": f"{data}/../secret/s.csv",
        "link": data / "link.csv",
        "folder link": data / "away/s.csv",
    }
    policy = SourcePolicy(prefixes=(str(data), "s3://models/eu"))
    with pytest.raises(SourceRefused, match="lies outside of what may be read"):
        Sources(policy).find([str(ways[way])])
    assert Sources(policy).find([f"{data}/a.csv"])
    assert Sources().find([str(ways[way])])


def test_objects_outside_of_the_prefixes_are_refused_before_any_call() -> None:
    policy = SourcePolicy(prefixes=("s3://models/eu",))
    for uri in ("s3://models/eu-secret/a.csv", "s3://other/eu/a.csv"):
        with pytest.raises(SourceRefused, match="lies outside of what may be read"):
            Sources(policy).find([uri])
    with pytest.raises(SourceRefused, match="no part '.' or '..'"):
        Sources(policy).find(["s3://models/eu/../secret.csv"])


def test_a_link_that_is_changed_after_the_plan_is_refused(data: Path, tmp_path: Path) -> None:
    sources = Sources(SourcePolicy(prefixes=(str(data),)))
    file = sources.find([f"{data}/a.csv"])[0]
    (tmp_path / "secret.csv").write_text("n\n5\n")
    (data / "a.csv").unlink()
    os.symlink(tmp_path / "secret.csv", data / "a.csv")
    with pytest.raises(SourceRefused, match="lies outside"), sources.open(file):
        pass


def test_what_is_no_regular_file_is_refused(data: Path) -> None:
    os.mkfifo(data / "pipe.csv")
    with pytest.raises(SourceRefused, match="want a regular file"):
        dataset_of(data / "pipe.csv")
    with pytest.raises(SourceError, match="NUL"):
        dataset_of(f"{data}/a\0.csv")


@pytest.mark.parametrize("change", ["longer", "same size", "another file", "gone"])
def test_a_file_that_changed_since_the_plan_is_refused_at_its_read(data: Path, change: str) -> None:
    dataset = dataset_of(data / "a.csv")
    (part,) = dataset.parts()
    if change == "longer":
        (data / "a.csv").write_text("n\n5\n6\n")
    elif change == "same size":
        (data / "a.csv").write_text("n\n6\n")
    elif change == "another file":
        (data / "b.csv").replace(data / "a.csv")
    else:
        (data / "a.csv").unlink()
    with pytest.raises(SourceError, match="has changed since the plan|No such file"):
        list(dataset.read(part))


def test_a_file_that_changes_while_it_is_read_is_refused_at_its_end(data: Path) -> None:
    sources = Sources()
    file = sources.find([f"{data}/a.csv"])[0]
    opened = sources.open(file)
    opened.__enter__().read()
    with (data / "a.csv").open("a") as more:
        more.write("7\n")
    with pytest.raises(SourceChanged, match="has changed since the plan: 4 bytes then, 6 bytes now"):
        opened.__exit__(None, None, None)


def test_a_name_tells_the_format_and_two_formats_are_refused(data: Path) -> None:
    (data / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceRefused, match="is parquet, but .* is csv; want files of one format"):
        dataset_of(data)
    (data / "x.parquet").rename(data / "x.data")
    with pytest.raises(SourceRefused, match="its name tells no format; say one in read.format: parquet, arrow"):
        dataset_of(data / "x.data")
    with pytest.raises(SourceRefused, match="unknown format 'excel'; known: parquet"):
        dataset_of(data / "x.data", format="excel")


def test_files_with_other_columns_are_refused_by_column(data: Path) -> None:
    (data / "b.csv").write_text("m\n1\n")
    with pytest.raises(SourceRefused, match=r"b.csv: has no column 'n', which .*a.csv has"):
        dataset_of(data / "*.csv")
    (data / "b.csv").write_text("n,m\n1,2\n")
    with pytest.raises(SourceRefused, match=r"b.csv: has a column 'm', which .*a.csv does not have"):
        dataset_of(data / "*.csv")
    assert rows_of(dataset_of(data / "*.csv", columns=("n",))) == [{"n": 5}, {"n": 1}]


def test_a_wanted_column_that_no_file_has_is_named_with_those_that_are_there(data: Path) -> None:
    with pytest.raises(SourceRefused, match="has no column 'price'; there are: n"):
        dataset_of(data / "a.csv", columns=("price",))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\0b", "a\nb", "%2e%2e", "../jobs/1", "ü", "x" * 65, "x" * 100_000]
)
def test_a_name_that_no_upload_can_have_is_refused_before_the_store_is_asked(tmp_path: Path, name: str) -> None:
    """Only names of uploads reach the store, which may read escapes and dots in its own way."""
    uploads = StoredUploads(Objects(str(tmp_path)))
    with pytest.raises(SourceRefused, match="want upload:// and the name of an upload") as refused:
        uploads.find(f"upload://{name}")
    assert len(str(refused.value)) < 300
    with pytest.raises(SourceRefused, match="there is no complete upload of that name"):
        uploads.find(f"upload://{'x' * 64}")


async def test_an_upload_has_few_pieces(tmp_path: Path) -> None:
    """Each call ends a piece: bytes that come one by one, each in a call of its own, make each next call slower."""
    uploads = Uploads(Objects(str(tmp_path)), 1 << 20, max_segments=3)
    for at in range(4):
        writer = await uploads.writer("tiny")
        await writer.write(at, b"a", google_crc32c.value(b"a"))
        await writer.finish(complete=False)
    with pytest.raises(InvalidRequest, match="upload 'tiny' came in more than 3 pieces; send it anew"):
        await uploads.writer("tiny")
    assert (await uploads.get("tiny")).bytes == 4
