"""An `Ask` at work in one process: its home, what it knows of the model, and its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any
from weakref import WeakSet

from triptych.protocol.metadata import ModelInfo
from triptych_client.answers import AnswerColumns, DigestOf
from triptych_client.columns.inputs import InputColumns
from triptych_client.errors import InvalidOptions, RefusedRow, RequestFailed
from triptych_client.homes.home import Home
from triptych_client.options import AskOptions
from triptych_client.parts import AnswerPart, AskTarget, PartAsker
from triptych_client.retries import Retries
from triptych_client.traffic import RowsByVersion, TrafficKeys, VersionRange


class Pending:
    """A table whose rows are being asked. If a request fails, those behind it are not sent."""

    def __init__(self, table: Any, by_version: RowsByVersion | None) -> None:
        """`table` is the one that was asked; `by_version` has its rows as they are asked, if not in its order."""
        self._by_version, self.futures = by_version, list[Future[list[AnswerPart]]]()
        self.table = table if by_version is None else by_version.table
        self._failed, self._cancelled = threading.Event(), threading.Event()

    @property
    def ranges(self) -> Sequence[VersionRange]:
        """Its rows by version; '' for that of the run."""
        return [VersionRange(0, self.table.num_rows, "")] if self._by_version is None else self._by_version.ranges

    def run(self, asker: PartAsker, start: int, end: int, version: str | None) -> list[AnswerPart]:
        """Ask some rows, on a thread of the run."""
        if self._failed.is_set():
            return []
        try:
            return asker.ask(self.table, start, end, self._cancelled, version)
        except RefusedRow as error:
            self._failed.set()
            raise self._in_asked_table(error) from error.__cause__
        except BaseException:
            self._failed.set()  # rows before these are still asked: theirs may be the error to name
            raise

    def in_order(self, answers: Any) -> Any:
        """Answers in the order of the table that was asked."""
        return answers if self._by_version is None else self._by_version.in_order(answers)

    def _in_asked_table(self, error: RefusedRow) -> RefusedRow:
        if self._by_version is None:
            return error
        return RefusedRow(int(self._by_version.rows[error.row]), error.code, error.text)

    def cancel(self) -> None:
        """Send no more requests, and try none again."""
        self._failed.set()
        self._cancelled.set()
        for future in self.futures:
            future.cancel()

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is in flight."""
        return all(future.done() for future in self.futures)

    def parts(self) -> list[AnswerPart]:
        """All parts in order. Raises the error of the first rows that failed, whichever was known first."""
        parts: list[AnswerPart] = []
        try:
            for future in self.futures:
                parts += future.result()
            if self._cancelled.is_set():
                raise CancelledError
        except CancelledError:
            raise RequestFailed("CANCELLED", "it was closed before all rows were asked") from None
        except BaseException:
            self.cancel()
            raise
        return parts


class AskRun:
    """Asks the version that was found at its beginning, unless the options leave it to the traffic."""

    def __init__(self, options: AskOptions) -> None:
        """Raises `RequestFailed`, and `InvalidOptions` for what the model has not."""
        self.pid, self._home = os.getpid(), _home(options)
        try:
            # Without a pin the model may be a family, of which any model is described: it may not have the version.
            described = options.version if options.is_pinned else ""
            info = Retries(options.connect_s)(lambda: self._home.describe(options.model, described))
            self.version = _version(options, info)
            _check_outputs(options, info)
        except BaseException:
            self._home.close()
            raise
        self._info, self._max_in_flight = info, options.threads
        self._max_rows = min(options.max_rows or info.max_rows, info.max_rows)
        self._retries = Retries(options.retry_s)
        self._inputs = _input_columns(options, info)
        self._answers = _answer_columns(options, info, lru_cache(self._digest) if options.records else None)
        self._asker = PartAsker(
            self._home,
            AskTarget(options.model, self.version, options.all_parameters, tuple(options.outputs or ())),
            info,
            self._inputs,
            self._retries,
            max_bytes=options.max_bytes,
            keeps_bad_rows=options.keeps_bad_rows,
        )
        self._keys = self._traffic_keys(options)
        self._threads = ThreadPoolExecutor(self._max_in_flight, "triptych-ask")
        self._unfinished, self._is_below = 0, threading.Condition()
        self._pending = WeakSet[Pending]()

    def schema(self, schema: Any) -> Any:
        """Schema of the answer to columns of a schema. Raises `InvalidColumns`."""
        self._inputs.check(schema)
        if self._keys is not None:
            self._keys.check(schema)
        return self._answers.schema(schema)

    def start(self, table: Any) -> Pending:
        """Begin to ask all rows of a table. Raises `InvalidColumns` before any."""
        self.schema(table.schema)
        pending = Pending(table, None if self._keys is None else self._keys.sort(table))
        with self._is_below:
            self._pending.add(pending)
        for some in pending.ranges:
            for start in range(some.start, some.end, self._max_rows):
                end = min(start + self._max_rows, some.end)
                with self._is_below:
                    self._unfinished += 1
                future = self._threads.submit(pending.run, self._asker, start, end, some.version)
                pending.futures.append(future)
                future.add_done_callback(self._count_finished)
        return pending

    def finish(self, pending: Pending) -> Any:
        """The answer to a table that was started. Raises `RefusedRow` or `RequestFailed`."""
        return pending.in_order(self._answers.table(pending.table, pending.parts()))

    def over(self, tables: Iterable[Any]) -> Generator[Any, None, None]:
        """Answers in the order of the tables. While one is waited for, the next are asked, up to the limit."""
        waiting: list[Pending] = []
        try:
            for table in tables:
                waiting.append(self.start(table))
                self._wait_below_limit(waiting[0])
                while waiting and (waiting[0].is_done or len(waiting) > self._max_in_flight):
                    yield self.finish(waiting.pop(0))
            while waiting:
                yield self.finish(waiting.pop(0))
        finally:
            for pending in waiting:
                pending.cancel()

    def close(self) -> None:
        """Ends what is in flight: it fails, and is not tried again."""
        with self._is_below:
            pending = list(self._pending)
        for each in pending:
            each.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._home.close()

    def _traffic_keys(self, options: AskOptions) -> TrafficKeys | None:
        if options.traffic_key is None:
            return None
        route = options.parameters.get("route")
        home, retries, model = self._home, self._retries, options.model

        def versions_of(keys: Sequence[str]) -> Sequence[str]:
            return retries(lambda: home.choose_versions(model, None if route is None else str(route), keys))

        return TrafficKeys(options.traffic_key, versions_of)

    def _count_finished(self, _future: Future[list[AnswerPart]]) -> None:
        with self._is_below:
            self._unfinished -= 1
            self._is_below.notify_all()

    def _wait_below_limit(self, oldest: Pending) -> None:
        """Wait until another request could begin. Other threads may take its place, so an answer ends the wait too."""
        with self._is_below:
            self._is_below.wait_for(lambda: self._unfinished < self._max_in_flight or oldest.is_done)

    def _digest(self, model: str, version: str) -> str:
        if version == self._info.version:
            return self._info.contract
        return self._retries(lambda: self._home.describe(model, version)).contract


def _home(options: AskOptions) -> Home:
    if options.repository is not None:
        from triptych_client.homes.local import LocalHome  # with OpenCV and the steps, which the other needs not

        return LocalHome(options.repository, options.max_rows)
    from triptych_client.homes.remote import RemoteHome

    return RemoteHome(
        options.address or "",
        tls=options.tls,
        metadata=options.metadata,
        timeout_s=options.timeout_s,
        max_answer_bytes=options.max_answer_bytes,
    )


def _version(options: AskOptions, info: ModelInfo) -> str:
    """The version of all requests; '' for the one that the traffic chooses for each. Raises `InvalidOptions`."""
    if not options.is_pinned:
        return options.version
    if not info.version:
        raise InvalidOptions(
            f"model: '{options.model}' is a family of several models, of which one version cannot be pinned; "
            "name the model, or ask with `pin=False`"
        )
    return info.version


def _input_columns(options: AskOptions, info: ModelInfo) -> InputColumns:
    return InputColumns(
        info.inputs,
        options.columns,
        keep=options.keep or (),
        others=() if options.traffic_key is None else (options.traffic_key,),
        has_others=options.ignore_others or options.keep is None,
        allow_rounding=options.allow_rounding,
    )


def _answer_columns(options: AskOptions, info: ModelInfo, digest_of: DigestOf | None) -> AnswerColumns:
    names = options.outputs
    return AnswerColumns(
        [tensor for tensor in info.outputs if names is None or tensor.name in names],
        names or {},
        keep=options.keep,
        text=options.text,
        has_errors=options.keeps_bad_rows,
        digest_of=digest_of,
    )


def _check_outputs(options: AskOptions, info: ModelInfo) -> None:
    known = {tensor.name: tensor for tensor in info.outputs}
    for option, names in (("outputs", options.outputs or ()), ("text", options.text)):
        for name in names:
            if name not in known:
                raise InvalidOptions(f"{option}: the model has no output '{name}'; there are: {', '.join(known)}")
            if option == "text" and known[name].datatype != "BYTES":
                raise InvalidOptions(f"text: output '{name}' is {known[name].datatype}, want BYTES")
