"""What a person sees in a terminal: progress while a search runs, tables when it is over."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from autosearch.cli.cells import front_cells, trial_cells
from autosearch.cli.final_view import Tests
from autosearch.cli.forecast import forecast_text
from autosearch.cli.tables import number_text
from autosearch.contracts import (
    SCORED,
    Objective,
    Status,
    Summary,
    TrialRecord,
)
from autosearch.data import LAYOUTS, Problem, Report, drawn_text, input_text, measured_text
from autosearch.errors import one_line
from autosearch.study import order_warning

_PLAIN_SECONDS = 5.0
_NAMES_SHOWN = 3
_SHOWN_STATUSES = (Status.FAILED, Status.INFEASIBLE, Status.PRUNED, Status.CACHED)


class SearchProgress:
    """A line that keeps itself up to date in a terminal, and plain lines now and then elsewhere.

    Args:
        console: Where to write.
        objectives: The study's objectives in its order.
        budget: Trials wanted in all.
    """

    def __init__(self, console: Console, objectives: Mapping[str, Objective], budget: int) -> None:
        self._console, self._objectives, self._budget = console, objectives, budget
        self._summary: Summary | None = None
        self._latest: TrialRecord | None = None
        self._finished_before: int | None = None
        self._start = time.monotonic()
        self._last_line = -_PLAIN_SECONDS
        self._lock = threading.Lock()
        self._bar = Progress(
            TextColumn("[bold]trials[/]"), BarColumn(30), MofNCompleteColumn(), console=console
        )
        self._task = self._bar.add_task("trials", total=budget)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show progress for as long as the block runs."""
        self._start = time.monotonic()
        if not self._console.is_terminal:
            yield
            self._print_line(force=True)
            return
        with Live(self, console=self._console, refresh_per_second=4, transient=False):
            yield

    def update(self, summary: Summary, latest: TrialRecord | None = None) -> None:
        """Take note of where the search stands."""
        with self._lock:
            if self._finished_before is None:
                self._finished_before = summary.finished - (latest is not None)
            self._summary = summary
            if latest is not None:
                self._latest = latest
        if not self._console.is_terminal:
            self._print_line()

    def __rich__(self) -> RenderableType:
        done = self._summary.finished if self._summary else 0
        self._bar.update(self._task, completed=done)
        grid = Table.grid()
        grid.add_row(self._bar)
        grid.add_row(self._status())
        return grid

    def _print_line(self, force: bool = False) -> None:
        now = time.monotonic()
        if force or now - self._last_line >= _PLAIN_SECONDS:
            self._last_line = now
            done = self._summary.finished if self._summary else 0
            self._console.print(f"{done}/{self._budget} trials | {self._status()}", soft_wrap=True)

    def _status(self) -> str:
        summary = self._summary
        if summary is None or self._latest is None:
            waited = _clock(time.monotonic() - self._start)
            return f"starting workers and the first trials … · {waited} elapsed"
        parts = [f"{summary.counts[s]} {s}" for s in _SHOWN_STATUSES if summary.counts[s]]
        parts.append(f"front {len(summary.front)}")
        for name, objective in self._objectives.items():
            if summary.front and objective.direction == "maximize":
                best = max(values[name] for values in summary.front.values())
                parts.append(f"best {name} {best:.4f}")
        latest = self._latest
        if latest is not None and latest.status in SCORED:
            shown = " ".join(f"{number_text(latest.values[n])} {n}" for n in self._objectives)
            parts.append(f"last {shown}")
        parts.append(f"{_clock(time.monotonic() - self._start)} elapsed")
        if (left := self._seconds_left(summary)) is not None:
            parts.append(f"{_clock(left)} left")
        return " · ".join(parts)

    def _seconds_left(self, summary: Summary) -> float | None:
        done = summary.finished - (self._finished_before or 0)
        if done < 1:
            return None
        pace = (time.monotonic() - self._start) / done
        return pace * max(0, summary.budget - summary.finished)


def front_table(
    front: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    limit: int = 20,
    tests: Tests = MappingProxyType({}),
    title: str | None = None,
    prevalence: float | None = None,
) -> RenderableType:
    """The Pareto front: trial number, objectives with unit, and the configuration in short.

    Args:
        front: Its trials.
        objectives: The study's, in its order.
        limit: Largest number of rows.
        tests: Test figures by trial number; a column more where there are any.
        title: Of other trials than a front.
        prevalence: That calibrated figures stand for.
    """
    if not front:
        return "No complete trial, so no Pareto front."
    plural = "" if len(front) == 1 else "s"
    usual = f"Pareto front, {len(front)} trial{plural}"
    cells = front_cells(front, objectives, tests, prevalence)
    table = Table(title=title or usual, title_justify="left", box=None)
    for place, head in enumerate(cells.heads):
        # The trial is first, and its configuration last.
        justify: Literal["left", "right"] = "left" if head == cells.heads[-1] else "right"
        table.add_column(head, justify=justify, style=None if place else "bold")
    for row in _thinned(cells.rows, limit):
        table.add_row(*map(escape, row))
    notes = list(cells.notes)
    if len(front) > limit:
        notes.append(f"{limit} of {len(front)} shown, evenly spaced; all are in pareto.csv")
    table.caption = "\n".join(filter(None, notes))
    table.caption_justify = "left"
    return table


def cost_warnings(
    front: Sequence[TrialRecord], objectives: Mapping[str, Objective]
) -> Iterable[str]:
    """Where the cost that the front is ordered by leaves out what would order it differently."""
    if (line := order_warning(front, list(objectives))) is not None:
        yield f"[yellow]{escape(line)}[/]"


def doubt_lines(doubt: str | None) -> Iterable[str]:
    """What `autosearch.study.indistinct` says, if anything."""
    if doubt is not None:
        yield f"[yellow]{escape(doubt)}[/]"


def trial_table(record: TrialRecord, prevalence: float | None = None) -> RenderableType:
    """Everything that is known of one trial.

    Args:
        record: The trial.
        prevalence: That calibrated figures stand for.
    """
    table = Table(
        box=None, show_header=False, title=f"Trial {record.number}", title_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in trial_cells(record, prevalence).rows:
        table.add_row(escape(name), escape(text))
    return table


def counts_line(counts: Mapping[str, int]) -> str:
    """Counts of trials on one line, those of none left out."""
    return (
        ", ".join(f"{number} {name}" for name, number in counts.items() if number) or "no trials"
    )


def check_report(report: Report) -> Iterable[RenderableType]:
    """What a dataset holds."""
    yield f"[bold]{escape(report.category)}[/] in {escape(one_line(str(report.root)))}"
    if report.layout in LAYOUTS:
        others = ", ".join(name for name in LAYOUTS if name != report.layout)
        yield (
            f"layout {report.layout}: {escape(LAYOUTS[report.layout].looks)}; "
            f"--set dataset.layout=NAME reads it as another: {others}"
        )
    table = Table(box=None, title="images", title_justify="left")
    table.add_column("type", overflow="fold")
    # A row with sums might be taken for a type, since types may be called anything.
    for split, types in report.counts.items():
        table.add_column(f"{split} ({sum(types.values())})", justify="right", no_wrap=True)
    for kind in dict.fromkeys(kind for types in report.counts.values() for kind in types):
        numbers = (str(types.get(kind, 0)) for types in report.counts.values())
        table.add_row(escape(kind), *numbers)
    yield table
    (w0, h0), (w1, h1) = report.smallest, report.largest
    yield f"image sizes from {w0} x {h0} to {w1} x {h1} pixels"
    if report.defects:
        yield f"validation draws {escape(one_line(report.defects))}"
    if report.objects:
        yield report.objects
    if report.tiles:
        yield f"detectors see {report.tiles}"
    if report.alignment:
        yield report.alignment.text
    if report.regions:
        areas = Table(
            box=None, title="anomalous regions, pixels of the files", title_justify="left"
        )
        for column in ("type", "regions", "smallest", "median", "largest"):
            areas.add_column(column, justify="left" if column == "type" else "right")
        for kind, area in report.regions.items():
            median = f"{area.median:.0f}"
            areas.add_row(
                escape(kind), str(area.count), str(area.minimum), median, str(area.maximum)
            )
        yield areas


def problem_lines(report: Report, every: bool = False) -> Iterable[Text]:
    """What is wrong with a dataset.

    Args:
        report: Of a check.
        every: Give each problem a line of its own, instead of each kind.
    """
    for group in ((problem,) for problem in report.problems) if every else report.groups:
        severity = group[0].severity
        colour = "red" if severity == "error" else "yellow"
        yield Text.assemble((severity, colour), f" {one_line(_told(group))}")
    if not report.problems:
        yield Text("no problems found", style="green")


def _told(group: Sequence[Problem]) -> str:
    """Problems of one kind on one line."""
    first, count = group[0], len(group)
    text = f"{first.path}: {first.problem}; {first.remedy}"
    if count == 1:
        return text
    names = ", ".join(str(problem.path) for problem in group[1:_NAMES_SHOWN])
    rest = f" and {count - _NAMES_SHOWN} more (--all names them)" if count > _NAMES_SHOWN else ""
    return f"{count} times, such as {text}; also {names}{rest}"


def warnings(meta: Mapping[str, Any]) -> Iterable[RenderableType]:
    """What a reader must not overlook: weights that mean nothing, defects that are made up."""
    random = [weights for weights in meta.get("weights", ()) if weights["source"] == "random"]
    if random:
        names = ", ".join(weights["name"] for weights in random)
        yield Panel(
            f"[bold]RANDOM WEIGHTS[/]: {escape(names)}. Accuracies show that the search works, "
            "and nothing about your parts.",
            border_style="red",
        )
    if meta.get("data", {}).get("synthetic"):
        yield "[yellow]The demo's defects are synthetic: do not quote its accuracies.[/]"


def provenance(meta: Mapping[str, Any]) -> Iterable[str]:
    """Which data and which weights stand behind the figures."""
    data = meta.get("data", {})
    if data:
        split = ", ".join(f"{part} {_listed(types)}" for part, types in data["counts"].items())
        yield (
            f"data     {escape(str(data['name']))}/{escape(str(data['category']))}: {split}; "
            f"{input_text(data)}; sha256 {data['sha256'][:12]}"
        )
        yield f"split    {escape(str(data['rule']))}"
        if defects := drawn_text(data.get("defects", {}), measured_text(data)):
            yield f"defects  {escape(one_line(defects))}"
        yield from (f"[yellow]weak[/]     {escape(note)}" for note in data.get("weak", ()))
        yield from (f"[yellow]assumed[/]  {escape(note)}" for note in data.get("notes", ()))
    if aligned := meta.get("alignment"):
        yield f"windows  {escape(aligned)}"
    if memory := meta.get("memory"):
        yield f"memory   {forecast_text(memory)}"
    for weights in meta.get("weights", ()):
        yield f"weights  {weights['name']} ({weights['source']}), sha256 {weights['sha256'][:12]}"


def next_commands(
    path: Path,
    records: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    directions: Mapping[str, str],
    distinct: bool = True,
) -> Iterable[str]:
    """What to type next; no trial is named where validation cannot tell them apart."""
    folder = escape(shlex.quote(str(path)))
    yield f"autosearch show {folder}"
    failed = [record for record in records if record.status == Status.FAILED]
    if front:
        yield f"autosearch report {folder}   # the front as a page; `autosearch dashboard` is live"
        if distinct:
            budget = _budget(front, directions)
            yield f"autosearch recommend {folder}   # the trial to take{budget}"
        yield f"autosearch evaluate {folder} --front   # figures on the test split"
        if distinct:
            yield f"autosearch export {folder} --trial {front[-1].number}"
    if failed:
        yield f"autosearch show {folder} --trial {failed[-1].number}   # why it failed"
    yield f"autosearch resume {folder} --trials N   # more trials"


def _budget(front: Sequence[TrialRecord], directions: Mapping[str, str]) -> str:
    """An option that halves a front by its cost; nothing where it has none."""
    costs = (name for name, way in directions.items() if way == "minimize")
    if len(front) < 2 or (cost := next(costs, None)) is None:
        return ""
    middle = sorted(record.values[cost] for record in front)[(len(front) - 1) // 2]
    bound = f"{middle:.3g}"
    if float(bound) < middle:  # Rounded, it would leave out what it is the cost of.
        bound = f"{1.01 * middle:.3g}"
    return f"; --budget '{cost} <= {bound}'"


def _thinned(rows: Sequence[Sequence[str]], limit: int) -> Sequence[Sequence[str]]:
    if len(rows) <= limit:
        return rows
    step = (len(rows) - 1) / (limit - 1)
    return [rows[round(i * step)] for i in range(limit)]


def _listed(types: Mapping[str, int]) -> str:
    return " + ".join(f"{number} {escape(kind)}" for kind, number in types.items())


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
