"""The batch document: one dataset, one model in one version, one output. Its schema is docs/batch.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from jobs.readers.limits import ReadLimits
from triptych.contract.errors import ContractError, spell
from triptych.contract.reading.files import FileError, escaped, printable_path, read_text
from triptych.contract.reading.yaml_reader import read_yaml
from triptych.contract.specs import AnyScalar
from triptych.errors import clipped
from triptych.protocol.aliases import ALIAS_RULE, is_alias_name
from triptych.runtime.faults import faults_of, in_words, known_fields, sentence

MAX_BYTES: Final = 256 << 10
MAX_FAULTS: Final = 50  # of one document
MAX_FAULT: Final = 500  # characters of one
MAX_URIS: Final = 1000

TypeName = Literal[
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "string",
    "binary", "date32",
]  # fmt: skip

_IDENTIFIER = in_words(r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$", "a name of SQL: letters, digits and _, at most 63")
_TABLE = in_words(
    r"^([A-Za-z_][A-Za-z0-9_$]{0,62}\.)?[A-Za-z_][A-Za-z0-9_$]{0,62}$", "a table as in forecasts or sales.forecasts"
)
_VARIABLE = in_words(r"^[A-Z_][A-Z0-9_]*$", "the name of an environment variable, as in BATCH_POSTGRES")


def _column_or_columns(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError("want a column, or a list of columns")


ColumnOrColumns = Annotated[
    str | tuple[str, ...],
    PlainValidator(_column_or_columns),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class DocumentError(Exception):
    """A document that cannot be used. `lines` holds one `file:line: field: problem` for each fault."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(lines))


class _DocumentPart(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class Read(_DocumentPart):
    """The dataset: files of one format, with the same columns."""

    uri: Annotated[
        tuple[str, ...],
        Field(
            strict=False,
            min_length=1,
            max_length=MAX_URIS,
            description="A path, a glob, a folder, s3://bucket/key or gs://bucket/key; or a list of them. Paths begin "
            "in the working directory.",
            json_schema_extra={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        ),
    ]
    format: Annotated[
        str,
        Field(
            description="parquet, arrow, arrow-stream, csv, jsonl, infer-requests, pictures, npy or npz. Unset: as the "
            "names of the files say."
        ),
    ] = ""
    types: Annotated[
        dict[str, TypeName],
        Field(description="Types of columns of CSV and JSONL that are no inputs. Unset: as the first rows show."),
    ] = {}
    delimiter: Annotated[str, Field(min_length=1, max_length=1, description="Between two fields of CSV.")] = ","

    @field_validator("uri", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value


class TlsFiles(_DocumentPart):
    """PEM files of a TLS connection."""

    ca: Annotated[str, Field(description="Authorities to trust. Unset: those of the system.")] = ""
    certificate: Annotated[str, Field(description="Certificate of this client, with `key`.")] = ""
    key: Annotated[str, Field(description="Key of the certificate.")] = ""
    server_name: Annotated[str, Field(description="Name in the server's certificate, if it is not the address.")] = ""


class HomeOptions(_DocumentPart):
    """The place of the model: a folder of models that run in this process, or the address of preprocess."""

    repository: Annotated[str, Field(description="Model repository, a folder. No server is needed.")] = ""
    address: Annotated[str, Field(description="Address of preprocess, as in localhost:9000.")] = ""
    tls: TlsFiles | None = None
    in_flight: Annotated[
        int | None,
        Field(ge=1, le=1024, description="Requests at once. Unset: 8, or one for each core with a repository."),
    ] = None
    background: Annotated[
        bool, Field(description="Whether the server answers the batch from what other requests leave.")
    ] = True
    timeout_seconds: Annotated[float, Field(gt=0, description="Longest time of one request.")] = 30.0
    retry_seconds: Annotated[
        float, Field(ge=0, description="Time for which a request that was shed or lost is tried again.")
    ] = 300.0

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if bool(self.repository) == bool(self.address):
            raise ValueError("want either repository, a folder of models, or address, of preprocess")
        if self.tls is not None and not self.address:
            raise ValueError("tls is for an address")
        return self


class Postgres(_DocumentPart):
    """A table of Postgres that gets the answers in one transaction at the end of the run."""

    table: Annotated[
        str, Field(pattern=_TABLE, description="An existing table with a column for each that is written.")
    ]
    key: Annotated[
        tuple[Annotated[str, Field(pattern=_IDENTIFIER)], ...],
        Field(
            strict=False,
            min_length=1,
            max_length=16,
            description="Columns with a unique index: a row with the same values is updated, any other inserted.",
        ),
    ]
    variable: Annotated[
        str, Field(pattern=_VARIABLE, description="Environment variable with the URL, which may hold a password.")
    ] = "BATCH_POSTGRES"


class Write(_DocumentPart):
    """The output. It appears whole, or not at all."""

    parquet: Annotated[str, Field(description="Folder that the run makes.")] = ""
    postgres: Postgres | None = None
    inputs: Annotated[bool, Field(description="Whether the records hold the inputs, too.")] = False

    @model_validator(mode="after")
    def _is_one_place(self) -> Self:
        if bool(self.parquet) == (self.postgres is not None):
            raise ValueError("want either parquet, a folder, or postgres")
        return self


class DatasetQuestion(_DocumentPart):
    """The question to every row of a dataset: a model, its version, and the columns of its inputs."""

    model: Annotated[str, Field(min_length=1, max_length=253, description="The model, as in sales_forecast_de.")]
    version: Annotated[
        int | str | None,
        Field(
            description="A number, or an alias such as production, which is resolved once at the start of the run. "
            "Unset: the version with the largest share of the traffic; of a repository the newest.",
            json_schema_extra={"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}], "default": None},
        ),
    ] = None
    traffic_key: Annotated[
        str,
        Field(
            max_length=1000,
            description="In place of `version`: a column of texts or whole numbers. Each row is answered by the "
            "version that requests with its key as `traffic_key` get online.",
        ),
    ] = ""
    read: Read
    columns: Annotated[
        dict[str, ColumnOrColumns],
        Field(
            description="Columns of inputs whose names differ, as {input: column}; or several that are one row of the "
            "input together, as {input: [column, column]}."
        ),
    ] = {}
    parameters: Annotated[dict[str, AnyScalar], Field(description="Parameters of every request.")] = {}
    keep: Annotated[
        tuple[str, ...],
        Field(strict=False, description="Columns of the dataset that stand beside the answers, such as a key."),
    ] = ()
    on_bad_rows: Annotated[
        Literal["refuse", "keep"],
        Field(
            description="refuse: the first row that cannot be answered ends the run. keep: it goes to errors.parquet."
        ),
    ] = "refuse"
    allow_rounding: Annotated[
        bool, Field(description="Take numbers that lose digits in the input's datatype, as doubles do in FP32.")
    ] = False
    text: Annotated[
        tuple[str, ...],
        Field(strict=False, description="Outputs of BYTES that are written as text. Unset: all bytes stay bytes."),
    ] = ()
    limits: ReadLimits = ReadLimits()

    @field_validator("version", mode="before")
    @classmethod
    def _is_one_version(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ValueError("want a number or an alias; `trafficKey` names the column of a split by traffic")
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
            return value
        if isinstance(value, str) and is_alias_name(value):
            return value
        raise ValueError(f"want a number from 1, or an alias: {ALIAS_RULE.removeprefix('want ')}")

    @model_validator(mode="after")
    def _is_one_rule(self) -> Self:
        if self.traffic_key and self.version is not None:
            raise ValueError("want either version or trafficKey, by which each row has its own")
        return self

    @property
    def canonical(self) -> str:
        """The document in one form, without defaults: two with the same meaning have the same text."""
        values = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps(values, sort_keys=True, ensure_ascii=False)


class BatchDocument(DatasetQuestion):
    """A batch: answer every row of a dataset once."""

    api_version: Literal["triptych.dev/v1"]
    kind: Literal["Batch"]
    home: HomeOptions
    write: Write
    parallel_parts: Annotated[
        int, Field(ge=1, le=64, description="Parts at once. The memory of a run is about three times their bytes.")
    ] = 2

    @model_validator(mode="after")
    def _has_traffic(self) -> Self:
        if self.traffic_key and self.home.repository:
            raise ValueError("trafficKey is for an address, a repository has no traffic")
        return self


class JobDocument(DatasetQuestion):
    """A job: the question alone. The service of jobs has the address of the model, and keeps the answers."""

    api_version: Literal["triptych.dev/v1"]
    kind: Literal["Job"]

    @field_validator("limits")
    @classmethod
    def _not_raised(cls, limits: ReadLimits) -> ReadLimits:
        """The memory is that of the service, which the callers of others need too."""
        for name, field in ReadLimits.model_fields.items():
            if (got := getattr(limits, name)) > field.default:
                raise ValueError(f"{to_camel(name)}: want at most {field.default} in a job, got {got}")
        return limits


D = TypeVar("D", bound=DatasetQuestion)


def read_document(path: Path) -> BatchDocument:
    """The document in a file. Raises `DocumentError` with every fault and its line."""
    name = printable_path(path)
    try:
        text = read_text(path, most=MAX_BYTES)
    except FileError as error:
        raise DocumentError([f"{name}:{error.line}: {error}"]) from None
    return _parsed(BatchDocument, text, name, "a batch document")


def parse_job(text: str) -> JobDocument:
    """The document of a job. Raises `DocumentError` with every fault and its line."""
    if (size := len(text.encode())) > MAX_BYTES:
        raise DocumentError([f"job:1: want at most {MAX_BYTES} bytes, got {size}"])
    return _parsed(JobDocument, text, "job", "the document of a job")


def _parsed(kind: type[D], text: str, name: str, what: str) -> D:
    try:
        values, lines = read_yaml(text, name, what)
        return kind.model_validate(values, by_alias=True, by_name=False)
    except ContractError as error:
        raise DocumentError(list(error.lines)) from None
    except ValidationError as error:
        raise DocumentError(list(_faults(kind, error, values, name, lines))) from None


def document_schema_text() -> str:
    """Text of docs/batch.schema.json."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | BatchDocument.model_json_schema(by_alias=True), indent=2, ensure_ascii=False) + "\n"


def _faults(
    kind: type[DatasetQuestion],
    error: ValidationError,
    document: Any,
    file: str,
    lines: Mapping[tuple[str | int, ...], int],
) -> Iterator[str]:
    faults, found = faults_of(error), list[tuple[int, str]]()
    for fault in faults:
        where = tuple(part for part in fault["loc"] if not str(part).startswith("("))
        is_unknown = fault["type"] == "extra_forbidden"
        known = known_fields(kind, where, document) if is_unknown else ()
        place = where
        while place and place not in lines:
            place = place[:-1]
        line, field = lines.get(place, 1), f"{spell(where)}: " if where else ""
        found.append((line, escaped(clipped(f"{file}:{line}: {field}{sentence(fault, known)}", MAX_FAULT))))
    found.sort(key=lambda each: each[0])
    yield from (text for _, text in found[:MAX_FAULTS])
    if len(found) > MAX_FAULTS:
        yield f"{file}:1: and {len(found) - MAX_FAULTS} more faults"
