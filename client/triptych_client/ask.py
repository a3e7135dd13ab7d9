"""`Ask`: a callable from columns to columns, by one model."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from triptych.contract.specs import Scalar
from triptych_client.connection import Metadata, Tls
from triptych_client.errors import AskError
from triptych_client.homes.remote import MAX_ANSWER_BYTES
from triptych_client.options import ALL, AskOptions, output_names, version_text
from triptych_client.run import AskRun
from triptych_client.spark import ddl_of

MAX_BYTES = 4 << 20  # as many as preprocess puts into one batch


class Ask:
    """Answers rows by a model of a server or of a folder:

        ask = Ask("sales_forecast_de", address="127.0.0.1:9000", keep=["shop"])
        answers = ask(batch)  # pyarrow.RecordBatch or Table, with a column for each input

    A function for Ray (`ds.map_batches(Ask, fn_constructor_kwargs={...}, batch_format="pyarrow")`) and for Spark
    (`df.mapInArrow(ask, ask.spark_schema(df.schema))`). It can be pickled, connects when it is used first, and may be
    used by several threads.
    """

    def __init__(
        self,
        model: str,
        *,
        address: str | None = None,
        repository: str | Path | None = None,
        version: int | str | None = None,
        traffic_key: str | None = None,
        background: bool = False,
        parameters: Mapping[str, Scalar] | None = None,
        columns: Mapping[str, str] | None = None,
        outputs: Sequence[str] | Mapping[str, str] | None = None,
        keep: Sequence[str] | Literal["all"] = (),
        ignore_others: bool = False,
        text: Collection[str] = (),
        allow_rounding: bool = False,
        on_bad_rows: Literal["refuse", "keep"] = "refuse",
        records: bool = False,
        pin: bool = True,
        max_rows: int | None = None,
        max_bytes: int = MAX_BYTES,
        in_flight: int | None = None,
        timeout_s: float = 30.0,
        retry_s: float = 60.0,
        connect_s: float = 10.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        tls: Tls | None = None,
        metadata: Metadata | None = None,
    ) -> None:
        """Raises `InvalidOptions`.

        - `address` of preprocess, or `repository`, a folder of models that run in this process.
        - `version`: a number, an alias, or None for the version with the largest share of the traffic, in a folder the
          newest. It is found out once, when the model is used first. Without `pin` each request is routed on its own.
        - `traffic_key`: a column; each row is answered by the version that requests with its key get online, and
          `version` is not given. `background`: the server answers from what other requests leave.
        - `parameters` of each request; `route` among them if `model` is a family, and `pin` is False.
        - `columns`: the column of each input whose name differs. `outputs`: those wanted, or their columns by name.
        - `keep`: columns to pass on, or "all". Other columns are refused, or left out with `ignore_others`.
        - `text`: outputs of BYTES to give as strings; the others are binary.
        - `allow_rounding`: numbers may lose digits, as doubles do as FP32. Otherwise such a value is refused.
        - `on_bad_rows`: "refuse" raises `RefusedRow`. "keep" answers the others and adds a column `error`.
        - `records` adds columns with model, version, digest of the contract, id of the request, and time.
        - `max_rows`: most rows of a request, by default the contract's limit, which only a folder may exceed.
        - `max_bytes` of the inputs of a request; one row may be larger.
        - `in_flight`: most requests at once: 8, in a folder one for each core.
        - `timeout_s` of a request to a server; `retry_s`, the time for which it is tried again; `connect_s`, the time
          for which the first call is. `max_answer_bytes`: most bytes of an answer of a server.
        - `metadata` of each call, or a function that makes it.
        """
        self._options = AskOptions(
            model=model,
            address=address,
            repository=None if repository is None else str(repository),
            version=version_text(version),
            traffic_key=traffic_key,
            background=background,
            parameters=dict(parameters or {}),
            columns=dict(columns or {}),
            outputs=output_names(outputs),
            keep=None if keep == ALL else tuple(keep),
            ignore_others=ignore_others,
            text=tuple(text),
            allow_rounding=allow_rounding,
            on_bad_rows=on_bad_rows,
            records=records,
            pin=pin,
            max_rows=max_rows,
            max_bytes=max_bytes,
            in_flight=in_flight,
            timeout_s=timeout_s,
            retry_s=retry_s,
            connect_s=connect_s,
            max_answer_bytes=max_answer_bytes,
            tls=tls,
            metadata=metadata,
        )
        self._run: AskRun | None = None
        self._starting = threading.Lock()

    def __call__(self, data: Any) -> Any:
        """The answers to a `pyarrow.RecordBatch` or `Table`, as the same; to an iterator of them as `over` gives them.

        Raises `TypeError` for anything else, `InvalidColumns` before the first request, `RefusedRow`, `RequestFailed`.
        """
        if isinstance(data, Iterator):
            return self.over(data)
        run = self._running()
        return _like(data, run.finish(run.start(_table(data))))

    def over(self, batches: Iterable[Any]) -> Generator[Any, None, None]:
        """The answers to batches or tables, in their order. The next are asked while one is waited for."""
        kinds: list[Any] = []

        def tables() -> Iterator[Any]:
            for data in batches:
                kinds.append(data)
                yield _table(data)

        with closing(self._running().over(tables())) as answers:
            for answer in answers:
                yield _like(kinds.pop(0), answer)

    async def call_async(self, data: Any) -> Any:
        """The answers to a batch or table, without blocking the event loop. Cancelling it ends the wait alone."""
        return await asyncio.to_thread(self, data)

    def schema(self, schema: Any) -> Any:
        """Schema of the answers to columns of this schema, before any row. Raises `InvalidColumns`."""
        return self._running().schema(schema)

    def spark_schema(self, schema: Any) -> str:
        """The same for `mapInArrow`, as a string that Spark reads, from a schema of pyarrow or of Spark.

        Raises `InvalidColumns` for a datatype that Spark has not.
        """
        if not isinstance(schema, pa.Schema):
            from pyspark.sql.pandas.types import to_arrow_schema

            schema = to_arrow_schema(schema)
        return ddl_of(self.schema(schema))

    @property
    def version(self) -> str:
        """The version that answers; '' if it is not one for all rows. Raises `RequestFailed`."""
        return self._running().version

    def close(self) -> None:
        """Close connections, sessions and threads. Another use opens them again."""
        with self._starting:
            run, self._run = self._run, None
        if run is not None and run.pid == os.getpid():
            run.close()

    def __enter__(self) -> Ask:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> AskOptions:
        """The options, with the version if it is pinned: all workers of a run ask the same."""
        run = self._run
        return self._options if run is None or not run.version else replace(self._options, version=run.version)

    def __setstate__(self, options: AskOptions) -> None:
        self._options, self._run, self._starting = options, None, threading.Lock()

    def _running(self) -> AskRun:
        with self._starting:
            if self._run is None or self._run.pid != os.getpid():  # a fork has no threads of its parent
                self._run = AskRun(self._options)
            return self._run


def _table(data: Any) -> Any:
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if not isinstance(data, pa.Table):
        raise TypeError(
            f"want a RecordBatch or Table of pyarrow, got {type(data).__name__}; pyarrow.Table.from_pandas makes one "
            "of a DataFrame, and batch_format='pyarrow' is Ray's"
        )
    return data


def _like(data: Any, answer: Any) -> Any:
    """The answer as a batch if a batch was asked. Raises `AskError` if it is too large for one."""
    if isinstance(data, pa.Table):
        return answer
    try:
        columns = [column.combine_chunks() for column in answer.columns]
        return pa.RecordBatch.from_arrays(columns, schema=answer.schema)
    except pa.ArrowInvalid as error:
        raise AskError(f"the answers are too large for one batch; ask smaller ones, or a table: {error}") from None
