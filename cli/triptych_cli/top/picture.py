"""A frame as tables in the terminal."""

from __future__ import annotations

import time

from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from triptych.protocol import controller_pb2 as cp
from triptych_cli.top.frame import Frame, Resident, age, plain, size, versions

BAR = 16
FULL, BUSY = 0.9, 0.7


def render(shown: Frame, height: int | None = None) -> RenderableType:
    """All of it, or what fits into `height` lines: Tritons first, then half for residents, the rest for decisions."""
    fixed = len(shown.predictors) + 8
    rows = max(2, (height - fixed)) if height else None
    decisions = min(len(shown.decisions), max(3, rows // 3)) if rows else len(shown.decisions)
    residents = max(1, rows - decisions) if rows else len(shown.residents)
    head = Text.assemble(
        ("triptych ", "bold"),
        f"{shown.address}: {len(shown.predictors)} Tritons, {len(shown.residents)} residents of {shown.models} models",
    )
    return Group(
        head,
        Text(""),
        _predictors(shown),
        Text(""),
        _residents(shown, residents),
        Text(""),
        _decisions(shown, decisions),
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold dim")
    for column in columns:
        name, right = column.removesuffix(">"), column.endswith(">")
        table.add_column(name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return table


def _predictors(shown: Frame) -> Table:
    table = _table("Triton", "", "bytes >", "models", " >", "loading >")
    for each in shown.predictors:
        bytes_text = _against(size(each.used_bytes), size(each.budget_bytes) if each.budget_bytes else "")
        models_text = _against(str(each.models), str(each.max_models) if each.max_models else "")
        table.add_row(
            Text(plain(each.address), "" if each.answers else "red"),
            _bar(each.used_bytes, each.budget_bytes) if each.answers else Text("does not answer", "red"),
            bytes_text,
            _bar(each.models, each.max_models),
            models_text,
            str(each.loading) if each.loading else "",
        )
    return table


def _residents(shown: Frame, rows: int) -> Table:
    table = _table("model", "Triton", "versions", "bytes >", "", "last use >", "requests/s >", "copies >", "")
    for each in shown.residents[:rows]:
        table.add_row(*_resident(each))
    if len(shown.residents) > rows:
        table.add_row(Text(f"... {len(shown.residents) - rows} more", "dim"))
    return table


def _resident(resident: Resident) -> tuple[str | Text, ...]:
    message = resident.message
    return (
        Text(plain(message.model)),
        Text(plain(message.predictor), "dim"),
        versions(resident.traffic),
        size(message.bytes),
        Text(plain(message.bytes_from), "dim"),
        age(message.idle_s),
        f"{message.requests_per_s:.1f}" if message.requests_per_s >= 0.05 else "",
        str(message.copies),
        Text("pinned", "cyan") if message.pinned else "",
    )


def _decisions(shown: Frame, rows: int) -> Table:
    table = _table("at", "decision", "model", "Triton", "took >", "outcome", "because")
    for each in shown.decisions[:rows]:
        table.add_row(*_decision(each))
    return table


def _decision(decision: cp.Decision) -> tuple[str | Text, ...]:
    return (
        time.strftime("%H:%M:%S", time.localtime(decision.time_s)),
        Text(plain(decision.action)),
        Text(plain(decision.model)),
        Text(plain(decision.predictor), "dim"),
        f"{decision.seconds:.2f} s" if decision.seconds else "",
        Text(plain(decision.outcome), "green" if decision.outcome == "ok" else "red"),
        Text(plain(decision.reason)),
    )


def _against(used: str, limit: str) -> str:
    return f"{used} of {limit}" if limit else used


def _bar(used: int, limit: int) -> RenderableType:
    """How full; nothing where there is no limit."""
    if not limit:
        return Text("no limit".ljust(BAR), "dim")
    part = used / limit
    colour = "red" if part > FULL else "yellow" if part > BUSY else "green"
    return Bar(limit, 0, min(used, limit), width=BAR, color=colour, bgcolor="grey23")
