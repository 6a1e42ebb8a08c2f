"""``autosearch repeat``: trials again, with other seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from autosearch.cli.completion import trial_numbers
from autosearch.cli.options import CategoryOption, DataOption, Directory
from autosearch.cli.screen import INTERRUPTED, console, print_all, reading_bar

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Study, Update
    from autosearch.contracts import Objective
    from autosearch.study import Repeated


def repeat(
    directory: Directory,
    trial: Annotated[
        list[int] | None,
        typer.Option(
            "--trial",
            min=0,
            help="A trial's number; repeatable.",
            show_default="the front",
            autocompletion=trial_numbers,
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=2, max=100, help="Runs of each, the trial included.")
    ] = 5,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Run trials again with other seeds: a training is a single draw.

    Mean and standard deviation over the runs are stored, shown by `show`, and what `recommend`
    goes by from then on. Ctrl-C keeps finished runs, and the same command goes on.
    """
    from autosearch.api import open_study

    study = open_study(directory)
    with reading_bar() as bar:

        def show(update: Update) -> None:
            bar(update)
            if update.stage == "repeating" and update.done < (update.total or 0):
                console.print(f"run {update.done + 1:g} of {update.total:g}: {update.text} …")

        try:
            study.repeat(trial or None, repeats, data=data, category=category, progress=show)
        except KeyboardInterrupt:
            print_all(runs_of(study))
            console.print("Stopped; the same command goes on.")
            raise typer.Exit(INTERRUPTED) from None
    print_all(runs_of(study))


def runs_of(study: Study) -> Iterable[RenderableType]:
    """A table of the trials that were run several times, if there are any."""
    found = {r.number: study.runs(r.number) for r in study.trials if r.number == r.origin}
    several = {number: runs for number, runs in found.items() if runs}
    if several:
        yield runs_table(several, study.objectives)


def runs_table(
    runs: Mapping[int, Mapping[str, Repeated]], objectives: Mapping[str, Objective]
) -> RenderableType:
    """Objectives of trials over their runs.

    Args:
        runs: By trial number, figures over its runs.
        objectives: The study's, in its order.
    """
    table = Table(title="Run several times, on validation", title_justify="left", box=None)
    for head in ("trial", "runs", *objectives):
        table.add_column(head, justify="right")
    for number, figures in runs.items():
        shown = [figures[name] for name in objectives if name in figures]
        table.add_row(str(number), str(shown[0].runs), *_cells(shown))
    table.caption = "mean ± standard deviation over seeds of one configuration, on the same images"
    table.caption_justify = "left"
    return table


def _cells(figures: Sequence[Repeated]) -> list[str]:
    return [
        f"{found.mean:.4g} ± {found.deviation:.2g}" if found.deviation else f"{found.mean:.4g}"
        for found in figures
    ]
