"""Reporter of a rollout that redraws one panel in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from triptych_cli.rollout.analysis import total_variation_distance
from triptych_cli.rollout.metrics.counts import Counts
from triptych_cli.rollout.reporters.lines import EXIT_TEXT, format_counts, format_ms
from triptych_cli.rollout.spec import AnalysisResult, ExitStatus, RolloutResult, RolloutSpec, RolloutStatus
from triptych_cli.rollout.traffic_split import TrafficSplit, format_split

OLD, NEW = "cyan", "magenta"
SPARKS = "▁▂▃▄▅▆▇█"
EXIT_COLOURS = {
    ExitStatus.PROMOTED: "green",
    ExitStatus.ROLLED_BACK: "yellow",
    ExitStatus.NOTHING_CHANGED: "yellow",
    ExitStatus.ABANDONED: "red",
}
CONCLUSION_COLOURS = {"good": "green", "worse": "red"}


class LiveReporter:
    """A panel with shares, counts of both versions and the time left; finished steps stay above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4)
        self._title, self._to = "", ""

    def started(self, spec: RolloutSpec, where: str, before: TrafficSplit) -> None:
        self._title, self._to = f"{spec.model}: version {spec.to}", spec.to
        steps = " → ".join(f"{share} %" for share in spec.steps)
        self._console.print(f"[bold]{escape(self._title)}[/] to {steps}, each for {spec.hold_s:g} s")
        now = f"now {escape(format_split(before))} [dim]({escape(where)})[/]"
        self._console.print(f"{now}; Ctrl-C rolls back to that, a second Ctrl-C leaves the traffic as it is")
        self._live.start()

    def progress(self, status: RolloutStatus) -> None:
        self._live.update(render(self._title, self._to, status))

    def step_finished(self, result: AnalysisResult) -> None:
        colour = CONCLUSION_COLOURS.get(result.conclusion, "yellow")
        self._console.print(f"[{colour}]{result.share:3} % {result.conclusion}[/] after {result.held_s:.0f} s")
        self._console.print(f"      [{OLD}]old[/] {format_counts(result.old)}", highlight=False)
        self._console.print(f"      [{NEW}]new[/] {format_counts(result.new)}", highlight=False)

    def finished(self, result: RolloutResult) -> None:
        self._live.update(Text(""))
        self._live.stop()
        self._console.print(f"[bold {EXIT_COLOURS[result.exit_status]}]{EXIT_TEXT[result.exit_status]}[/]: ", end="")
        self._console.print(result.reason, markup=False, highlight=False)
        self._console.print(f"traffic: {format_split(result.traffic)}", markup=False)


def render(title: str, to: str, status: RolloutStatus) -> RenderableType:
    """The panel of one moment."""
    head = Text.assemble((f"{status.share} % ", "bold"), status.phase, (f"   {status.left_s:.0f} s left", "dim"))
    parts: list[RenderableType] = [head, _bars(to, status.traffic), _table(status)]
    if status.note:
        parts.append(Text(status.note, "yellow"))
    return Panel(Group(*parts), title=escape(title), title_align="left", width=100)


def _bars(to: str, traffic: TrafficSplit) -> Table:
    table = Table.grid(padding=(0, 1))
    for version, percent in sorted(traffic.items(), key=lambda item: item[0] == to):
        colour = NEW if version == to else OLD
        bar = Bar(100, 0, percent, width=60, color=colour)
        table.add_row(Text(f"version {version}", colour), bar, f"{percent:3} %")
    return table


def _table(status: RolloutStatus) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "requests", "failed", "p50", "p99", "answers moved", "median by second"):
        table.add_column(heading, justify="left" if heading in ("", "median by second") else "right")
    moved = total_variation_distance(status.old.answers, status.new.answers)
    sides = [("old", OLD, status.old, None, 0), ("new", NEW, status.new, moved, 1)]
    ceiling = max((value for pair in status.recent for value in pair if value is not None), default=0.0)
    for name, colour, counts, shift, at in sides:
        line = sparkline([pair[at] for pair in status.recent], ceiling)
        table.add_row(Text(name, colour), *_row(counts), "-" if shift is None else f"{shift:.0%}", Text(line, colour))
    return table


def _row(counts: Counts) -> tuple[str, ...]:
    quantiles = (format_ms(counts.quantile(part)) for part in (0.5, 0.99))
    return (str(counts.requests), f"{counts.errors} ({counts.error_rate:.1%})", *quantiles)


def sparkline(values: Sequence[float | None], ceiling: float, width: int = 24) -> str:
    """A block character for each of the last `width` values, from 0 to `ceiling`; a blank for None."""
    top = len(SPARKS) - 1
    return "".join(
        " " if value is None or not ceiling else SPARKS[min(top, int(value / ceiling * top + 0.5))]
        for value in values[-width:]
    )
