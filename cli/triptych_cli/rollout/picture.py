"""The course of a rollout as a picture in the terminal that changes in place."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from triptych_cli.rollout.analysis import distance
from triptych_cli.rollout.counts import Counts
from triptych_cli.rollout.lines import WORDS, figures, milliseconds
from triptych_cli.rollout.plan import Traffic, spell
from triptych_cli.rollout.spec import End, Outcome, Verdict, View, Wish

OLD, NEW = "cyan", "magenta"
SPARKS = "▁▂▃▄▅▆▇█"
COLOURS = {End.PROMOTED: "green", End.ROLLED_BACK: "yellow", End.NOTHING_CHANGED: "yellow", End.LEFT: "red"}
VERDICTS = {"good": "green", "worse": "red"}


class Picture:
    """Shares as bars, both sides' figures, what is left of the step; finished steps stay above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4)
        self._title, self._to = "", ""

    def begin(self, wish: Wish, where: str, before: Traffic) -> None:
        self._title, self._to = f"{wish.model}: version {wish.to}", wish.to
        steps = " → ".join(f"{share} %" for share in wish.steps)
        self._console.print(f"[bold]{escape(self._title)}[/] to {steps}, each for {wish.hold_s:g} s")
        now = f"now {escape(spell(before))} [dim]({escape(where)})[/]"
        self._console.print(f"{now}; Ctrl-C goes back to that, a second one leaves it")
        self._live.start()

    def tick(self, view: View) -> None:
        self._live.update(render(self._title, self._to, view))

    def step(self, verdict: Verdict) -> None:
        colour = VERDICTS.get(verdict.verdict, "yellow")
        self._console.print(f"[{colour}]{verdict.share:3} % {verdict.verdict}[/] after {verdict.held_s:.0f} s")
        self._console.print(f"      [{OLD}]old[/] {figures(verdict.old)}", highlight=False)
        self._console.print(f"      [{NEW}]new[/] {figures(verdict.new)}", highlight=False)

    def end(self, outcome: Outcome) -> None:
        self._live.update(Text(""))
        self._live.stop()
        self._console.print(f"[bold {COLOURS[outcome.end]}]{WORDS[outcome.end]}[/]: ", end="")
        self._console.print(outcome.reason, markup=False, highlight=False)
        self._console.print(f"traffic: {spell(outcome.traffic)}", markup=False)


def render(title: str, to: str, view: View) -> RenderableType:
    """One frame."""
    head = Text.assemble((f"{view.share} % ", "bold"), view.phase, (f"   {view.left_s:.0f} s left", "dim"))
    parts: list[RenderableType] = [head, _bars(to, view.traffic), _figures(view)]
    if view.note:
        parts.append(Text(view.note, "yellow"))
    return Panel(Group(*parts), title=escape(title), title_align="left", width=100)


def _bars(to: str, traffic: Traffic) -> Table:
    table = Table.grid(padding=(0, 1))
    for version, percent in sorted(traffic.items(), key=lambda item: item[0] == to):
        colour = NEW if version == to else OLD
        bar = Bar(100, 0, percent, width=60, color=colour)
        table.add_row(Text(f"version {version}", colour), bar, f"{percent:3} %")
    return table


def _figures(view: View) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "requests", "failed", "p50", "p99", "answers moved", "median by second"):
        table.add_column(heading, justify="left" if heading in ("", "median by second") else "right")
    moved = distance(view.old.answers, view.new.answers)
    sides = [("old", OLD, view.old, None, 0), ("new", NEW, view.new, moved, 1)]
    ceiling = max((value for pair in view.recent for value in pair if value is not None), default=0.0)
    for name, colour, counts, shift, at in sides:
        line = sparkline([pair[at] for pair in view.recent], ceiling)
        table.add_row(Text(name, colour), *_row(counts), "-" if shift is None else f"{shift:.0%}", Text(line, colour))
    return table


def _row(counts: Counts) -> tuple[str, ...]:
    quantiles = (milliseconds(counts.quantile(part)) for part in (0.5, 0.99))
    return (str(counts.requests), f"{counts.errors} ({counts.error_rate:.1%})", *quantiles)


def sparkline(values: Sequence[float | None], ceiling: float, width: int = 24) -> str:
    """A character for each of the last values, from nothing to `ceiling`; a gap where there was none."""
    top = len(SPARKS) - 1
    return "".join(
        " " if value is None or not ceiling else SPARKS[min(top, int(value / ceiling * top + 0.5))]
        for value in values[-width:]
    )
