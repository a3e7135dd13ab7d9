"""A snapshot as tables for the terminal."""

from __future__ import annotations

import time

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triptych.protocol import controller_pb2 as cp
from triptych_cli.top.snapshot import ModelRow, Snapshot, format_age, format_bytes, format_versions, printable_line

BAR_WIDTH = 16
FULL, HIGH = 0.9, 0.7


def render(snapshot: Snapshot, height: int | None = None) -> RenderableType:
    """All rows, or those that fit into `height` lines: all predictors, a third for decisions, the rest for models."""
    fixed = len(snapshot.predictors) + 9
    rows = max(2, (height - fixed)) if height else None
    decisions = min(len(snapshot.decisions), max(3, rows // 3)) if rows else len(snapshot.decisions)
    models = max(1, rows - decisions) if rows else len(snapshot.loaded_models)
    counts = f"{len(snapshot.predictors)} predictors, {len(snapshot.loaded_models)} models loaded"
    head = Text.assemble(("triptych ", "bold"), f"{snapshot.address}: {counts}, {snapshot.models} in the catalog")
    return Group(
        head,
        _store(snapshot),
        Text(""),
        _predictors(snapshot),
        Text(""),
        _models(snapshot, models),
        Text(""),
        _decisions(snapshot, decisions),
    )


def _store(snapshot: Snapshot) -> Text:
    store = snapshot.store
    location = printable_line(store.location)
    age_s = time.time() - store.read_s
    last = f"last read {format_age(age_s)} ago" if store.read_s else "never read"
    fault = f": {printable_line(store.fault)}" if store.fault else ""
    return Text(f"models of {location}, {last}{fault}", "red" if fault else "", no_wrap=True, overflow="ellipsis")


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in columns:
        name, right = column.removesuffix(">"), column.endswith(">")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table


def _predictors(snapshot: Snapshot) -> Table:
    table = _table("predictor", "", "bytes >", "models", " >", "loading >")
    for each in snapshot.predictors:
        bytes_text = _of_limit(
            format_bytes(each.used_bytes), format_bytes(each.budget_bytes) if each.budget_bytes else ""
        )
        models_text = _of_limit(str(each.models), str(each.max_models) if each.max_models else "")
        table.add_row(
            Text(printable_line(each.address), "" if each.answers else "red"),
            _bar(each.used_bytes, each.budget_bytes) if each.answers else Text("does not answer", "red"),
            bytes_text,
            _bar(each.models, each.max_models),
            models_text,
            str(each.loading) if each.loading else "",
        )
    return table


def _models(snapshot: Snapshot, rows: int) -> Table:
    table = _table("model", "predictor", "versions", "bytes >", "", "last use >", "requests/s >", "replicas >", "")
    for each in snapshot.loaded_models[:rows]:
        table.add_row(*_model(each))
    if len(snapshot.loaded_models) > rows:
        table.add_row(Text(f"... {len(snapshot.loaded_models) - rows} more", "dim"))
    return table


def _model(loaded: ModelRow) -> tuple[str | Text, ...]:
    message = loaded.message
    return (
        Text(printable_line(message.model)),
        Text(printable_line(message.predictor), "dim"),
        format_versions(loaded.traffic, loaded.aliases),
        format_bytes(message.bytes),
        Text(printable_line(message.bytes_from), "dim"),
        format_age(message.idle_s),
        f"{message.requests_per_s:.1f}" if message.requests_per_s >= 0.05 else "",
        str(message.desired_replicas),
        Text("pinned", "cyan") if message.pinned else "",
    )


def _decisions(snapshot: Snapshot, rows: int) -> Table:
    table = _table("time", "decision", "model", "predictor", "took >", "outcome", "reason")
    for each in snapshot.decisions[:rows]:
        table.add_row(*_decision(each))
    return table


def _decision(decision: cp.Decision) -> tuple[str | Text, ...]:
    return (
        time.strftime("%H:%M:%S", time.localtime(decision.time_s)),
        Text(printable_line(decision.action)),
        Text(printable_line(decision.model)),
        Text(printable_line(decision.predictor), "dim"),
        f"{decision.seconds:.2f} s" if decision.seconds else "",
        Text(printable_line(decision.outcome), "green" if decision.outcome == "ok" else "red"),
        Text(printable_line(decision.reason)),
    )


def _of_limit(used: str, limit: str) -> str:
    return f"{used} of {limit}" if limit else used


def _bar(used: int, limit: int) -> RenderableType:
    """A bar of the used share; a text without a limit."""
    if not limit:
        return Text("no limit".ljust(BAR_WIDTH), "dim")
    part = used / limit
    colour = "red" if part > FULL else "yellow" if part > HIGH else "green"
    return Bar(limit, 0, min(used, limit), width=BAR_WIDTH, color=colour, bgcolor="grey23")
