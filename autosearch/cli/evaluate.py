"""``autosearch evaluate``: the only command that reads the test split."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from autosearch.cli.options import CategoryOption, DataOption
from autosearch.cli.screen import INTERRUPTED, console, print_all, print_unbroken, reading_bar
from autosearch.errors import StudyError


class FitName(StrEnum):
    """What detectors are fitted on before they are measured."""

    ALL = "all"
    TRAIN = "train"


if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Study, Update
    from autosearch.study import Comparison


def evaluate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    trial: Annotated[
        list[int] | None, typer.Option("--trial", min=0, help="A trial's number; repeatable.")
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="All trials of the Pareto front.")
    ] = False,
    against: Annotated[
        int | None,
        typer.Option("--against", min=0, help="A trial's number: differences to it, paired."),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Bootstrap resamples of an interval.")
    ] = 1000,
    force: Annotated[
        bool, typer.Option("--force", help="Also trials that have been evaluated before.")
    ] = False,
    fit: Annotated[
        FitName,
        typer.Option("--fit", help="Fit on all normal images but the test split's, or on train."),
    ] = FitName.ALL,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Measure trials on the test split, which no search reads: the final figures.

    Fits each again as the search did, chooses thresholds on validation, fits on all normal images
    but the test split's, as `export` does, and stores the metrics of the test split, overall and
    by anomaly type, with 95 % bootstrap intervals over images.
    With --against, differences to another trial, with intervals over the same resamples; several
    trials are set against trial 0 by themselves if that is a configuration of `start`. Ctrl-C
    keeps what is finished.
    """
    from autosearch.api import open_study
    from autosearch.cli import final_view
    from autosearch.cli.console import warnings

    study = open_study(directory)
    numbers = [*(trial or []), *((record.number for record in study.front) if front else ())]
    if not numbers and not front:
        raise StudyError(f"{study.path}: which trials? Give --trial N, or --front for the front")
    if against is not None:
        numbers.append(against)
    stopped = False
    with _View() as view:
        try:
            study.evaluate(
                numbers or None,
                resamples=resamples,
                force=force,
                fit=fit.value,
                data=data,
                category=category,
                progress=view,
            )
        except KeyboardInterrupt:
            stopped = True
    tests = study.tests
    wanted = list(dict.fromkeys(numbers))
    found = [study.trial(number) for number in wanted if number in tests]
    one = [record for record in found if record.number != against or len(found) == 1]
    differences = _differences(study, [record.number for record in one], against)
    if len(one) == 1:
        print_all(final_view.final_tables(tests[one[0].number]))
        if against is not None:
            for difference in differences:
                print_all(final_view.difference_table(difference, tests))
    elif found:
        objectives, doubt = study.objectives, study.doubt
        print_all(final_view.evaluated_table(found, objectives, tests, differences, doubt))
    shown = {record.number: tests[record.number] for record in found}
    print_all(warnings(study.meta), final_view.final_warnings(shown))
    if stopped:
        onward = "." if force else "; the same command goes on."
        console.print(f"Stopped; {len(found)} of {len(wanted)} trials have figures{onward}")
        raise typer.Exit(INTERRUPTED)
    console.print(f"Kept in {study.path}/trials; by type: autosearch show {study.path} --trial N")


def _differences(study: Study, numbers: Sequence[int], against: int | None) -> list[Comparison]:
    """Trials set against one that was asked for, or the configuration that a search began with."""
    if against is not None:
        evaluated = against in study.tests
        return [study.compare(number, against) for number in numbers] if evaluated else []
    first = next(iter(study.spec.configurations), {})
    if not first or 0 not in study.tests or not first.items() <= study.trial(0).params.items():
        return []
    # Nobody asked for it, so figures of an earlier version or of other resamples are no error.
    try:
        return [study.compare(number, 0) for number in numbers if number != 0]
    except StudyError as error:
        print_unbroken([escape(f"not set against trial 0: {error}")])
        return []


class _View:
    """Progress over images that are read and the parts of all evaluations, with the time left."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: Progress | None = None
        self._known = 0

    def __enter__(self) -> _View:
        self._reading = self._stack.enter_context(reading_bar())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._say_known()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        if update.stage != "evaluating" or update.trial is None:
            self._reading(update)
        elif update.text == "known":
            self._known += 1
        elif update.text == "kept":
            if not console.is_terminal:
                console.print(f"trial {update.trial.number} evaluated", highlight=False)
        else:
            self._show(update, update.trial.number)

    def _show(self, update: Update, number: int) -> None:
        if self._bar is None:
            self._stack.close()
            self._say_known()
            self._bar = self._stack.enter_context(_bar())
            self._bar.add_task("evaluating", total=update.total, left=None, at=0.0)
        task = self._bar.tasks[0]
        elapsed, done = task.elapsed or 0.0, update.done
        left = elapsed / done * ((update.total or 0.0) - done) if done else None
        text = f"trial {number}: {update.text}"
        self._bar.update(task.id, description=text, completed=done, left=left, at=elapsed)

    def _say_known(self) -> None:
        if self._known:
            console.print(f"{self._known} evaluated before and skipped; --force evaluates again")
            self._known = 0


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        TextColumn("{task.percentage:.0f} %"),
        _TimeLeft(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class _TimeLeft(ProgressColumn):
    """Time left at the pace so far, counted down between two steps."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn.render`."""
        left = task.fields["left"]
        if left is None:
            return Text("")
        now = left - ((task.elapsed or 0.0) - task.fields["at"])
        return Text(f"{timedelta(seconds=max(0, round(now)))} left")
