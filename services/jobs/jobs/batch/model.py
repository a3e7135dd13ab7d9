"""The model of a run: one version, found out once, with its inputs as columns of the dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.batch.columns import GatheredColumns
from jobs.batch.document import DatasetQuestion, HomeOptions
from jobs.batch.errors import BatchError, Interrupted
from triptych.protocol.metadata import ModelInfo
from triptych_client import Ask, AskError, RequestFailed, Tls
from triptych_client.columns.types import column_type
from triptych_client.homes.home import Home
from triptych_client.retries import Retries

CONNECT_S = 10.0


@dataclass(frozen=True)
class PinnedModel:
    """The version that answers all rows of a run, with the digest of its contract.

    With a traffic key the rows are answered by the versions of their keys, and get the columns of this one.
    """

    document: DatasetQuestion
    info: ModelInfo
    home: HomeOptions

    @property
    def version(self) -> int:
        return int(self.info.version)

    def column_of(self, name: str) -> str:
        """Column of an input as it is asked; gathered columns have the name of their input."""
        column = self.document.columns.get(name, name)
        return column if isinstance(column, str) else name

    def columns_of(self, name: str) -> tuple[str, ...]:
        """Columns of the dataset that are an input."""
        column = self.document.columns.get(name, name)
        return (column,) if isinstance(column, str) else column

    @property
    def gathered(self) -> GatheredColumns:
        """The inputs of several columns each."""
        groups = {name: column for name, column in self.document.columns.items() if not isinstance(column, str)}
        return GatheredColumns(groups, self.extra_columns)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns that are read though no input needs them."""
        key = self.document.traffic_key
        return (*self.document.keep, key) if key else self.document.keep

    def columns(self, available: Sequence[str]) -> tuple[str, ...]:
        """Columns that are read: those of inputs that are there, then the others that are wanted."""
        inputs = [column for tensor in self.info.inputs for column in self.columns_of(tensor.name)]
        wanted = [*inputs, *self.extra_columns]
        return tuple(dict.fromkeys(name for name in wanted if name in available))

    def input_columns(self, names: Sequence[str]) -> list[str]:
        """Columns of inputs that are among `names`."""
        return [column for tensor in self.info.inputs if (column := self.column_of(tensor.name)) in names]

    @property
    def types(self) -> Mapping[str, Any]:
        """Types of columns whose format has none: those of the inputs win over those of the document."""
        named = {name: pa.type_for_alias(word) for name, word in self.document.read.types.items()}
        inputs: dict[str, Any] = {}
        for tensor in self.info.inputs:
            kind = column_type(tensor, is_text=tensor.datatype == "BYTES")
            if not isinstance(self.document.columns.get(tensor.name, ""), str) and pa.types.is_list(kind):
                kind = kind.value_type
            inputs |= dict.fromkeys(self.columns_of(tensor.name), kind)
        return named | inputs

    def ask(self, names: Sequence[str], *, keeps_inputs: bool = False) -> Ask:
        """The callable that answers rows with these columns, and passes the inputs on, if wanted."""
        document, home = self.document, self.home
        inputs = self.input_columns(names) if keeps_inputs else []
        return Ask(
            self.info.name,
            address=home.address or None,
            repository=home.repository or None,
            version=None if document.traffic_key else self.version,
            traffic_key=document.traffic_key or None,
            parameters=document.parameters,
            columns={name: column for name, column in document.columns.items() if isinstance(column, str)},
            keep=tuple(dict.fromkeys([*document.keep, *inputs])),
            ignore_others=True,
            text=document.text,
            allow_rounding=document.allow_rounding,
            on_bad_rows=document.on_bad_rows,
            records=True,
            background=home.background and bool(home.address),
            in_flight=home.in_flight,
            timeout_s=home.timeout_seconds,
            retry_s=home.retry_seconds,
            tls=tls_of(home),
        )


def pin(document: DatasetQuestion, options: HomeOptions, version: int | None = None) -> PinnedModel:
    """The model of a document in the version that its alias has now, or in a given one. Raises `BatchError`."""
    wanted = document.version if version is None else version
    try:
        home = _home(options)
    except AskError as error:
        raise BatchError(str(error)) from None
    try:
        info = Retries(CONNECT_S)(lambda: home.describe(document.model, "" if wanted is None else str(wanted)))
    except RequestFailed as error:
        kind = Interrupted if error.is_transient else BatchError
        raise kind(f"model '{document.model}': {error}") from None
    finally:
        home.close()
    if not info.version:
        raise BatchError(f"'{document.model}' is a family of several models; want the name of one, as in a folder")
    return PinnedModel(document, info, options)


def tls_of(home: HomeOptions) -> Tls | None:
    """The TLS options of a home; None without TLS."""
    if home.tls is None:
        return None
    return Tls(home.tls.ca, home.tls.certificate, home.tls.key, home.tls.server_name)


def _home(home: HomeOptions) -> Home:
    """Raises `InvalidOptions`."""
    if home.repository:
        from triptych_client.homes.local import LocalHome  # with OpenCV and the steps, which the other needs not

        return LocalHome(home.repository)
    from triptych_client.homes.remote import RemoteHome

    return RemoteHome(home.address, tls=tls_of(home), timeout_s=home.timeout_seconds)
