"""``autosearch evaluate``: figures of the test split, which no search reads."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from autosearch.cli.completion import trial_numbers
from autosearch.cli.options import (
    CategoryOption,
    DataOption,
    Directory,
    EnsembleOption,
    ensemble_of,
)
from autosearch.cli.screen import INTERRUPTED, console, print_all, print_unbroken, reading_bar
from autosearch.contracts import called, ensemble_name
from autosearch.errors import StudyError


class FitName(StrEnum):
    """What detectors are fitted on before they are measured."""

    ALL = "all"
    TRAIN = "train"


if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Study, Update
    from autosearch.study import Comparison


def evaluate(
    directory: Directory,
    trial: Annotated[
        list[int] | None,
        typer.Option(
            "--trial",
            min=0,
            help="A trial's number; repeatable.",
            autocompletion=trial_numbers,
        ),
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
    ensemble: EnsembleOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Measure trials on the test split, which no search reads: the final figures.

    Fits each again as the search did, chooses thresholds on validation, fits on all normal images
    but the test split's, as `export` does, and stores the metrics of the test split, overall and
    by anomaly type, with 95 % bootstrap intervals over images.
    With --against, differences to another trial, with intervals over the same resamples; several
    trials are set against trial 0 by themselves if that is a configuration of `start`.
    With --ensemble several trials are measured as one detector: the mean of their maps, each
    standardised by its scores of normal validation pixels. Ctrl-C keeps what is finished.
    """
    from autosearch.api import open_study
    from autosearch.cli import final_view
    from autosearch.cli.console import warnings

    study = open_study(directory)
    numbers = [*(trial or []), *((record.number for record in study.front) if front else ())]
    members = ensemble_of(ensemble)
    if not numbers and not front and members is None:
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
                ensemble=members,
            )
        except KeyboardInterrupt:
            stopped = True
    tests = study.tests
    wanted = list(dict.fromkeys(numbers))
    found = [study.trial(number) for number in wanted if number in tests]
    several = _ensembles(study, members)
    every: dict[int | str, dict[str, Any]] = dict([*tests.items(), *several.items()])
    shown: list[int | str] = [*(record.number for record in found), *several]
    one = [which for which in shown if which != against or len(shown) == 1]
    differences = _differences(study, one, against)
    if len(one) == 1:
        print_all(final_view.final_tables(every[one[0]]))
        if against is not None:
            for difference in differences:
                print_all(final_view.difference_table(difference, every))
    elif shown:
        objectives, doubt = study.objectives, study.doubt
        print_all(
            final_view.evaluated_table(found, objectives, tests, differences, doubt, several)
        )
    told = {which: every[which] for which in shown}
    print_all(warnings(study.meta), final_view.final_warnings(told))
    if stopped:
        onward = "." if force else "; the same command goes on."
        total = len(wanted) + (members is not None)
        console.print(f"Stopped; {len(shown)} of {total} trials have figures{onward}")
        raise typer.Exit(INTERRUPTED)
    if found:
        place, folder = escape(f"{study.path}/trials"), escape(shlex.quote(str(study.path)))
        console.print(f"Kept in {place}; by type: autosearch show {folder} --trial N")
    if several:
        console.print(f"Kept in {escape(str(study.path))}/ensembles")


def _ensembles(study: Study, members: Sequence[int] | None) -> dict[str, dict[str, Any]]:
    """Figures of the ensemble that was asked for, by its name, if it has any."""
    name = ensemble_name(members or ())
    return {one: figures for one, figures in study.ensembles.items() if one == name}


def _differences(
    study: Study, shown: Sequence[int | str], against: int | None
) -> list[Comparison]:
    """Trials set against one that was asked for, or the configuration that a search began with."""
    numbers = [
        which if isinstance(which, int) else study.ensembles[which]["ensemble"] for which in shown
    ]
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
        which = update.ensemble if update.trial is None else update.trial.number
        if update.stage != "evaluating" or which is None:
            self._reading(update)
        elif update.text == "known":
            self._known += 1
        elif update.text == "kept":
            if not console.is_terminal:
                console.print(f"{called(which)} evaluated", highlight=False)
        else:
            self._show(update, called(which))

    def _show(self, update: Update, name: str) -> None:
        if self._bar is None:
            self._stack.close()
            self._say_known()
            self._bar = self._stack.enter_context(_bar())
            self._bar.add_task("evaluating", total=update.total, left=None, at=0.0)
        task = self._bar.tasks[0]
        elapsed, done = task.elapsed or 0.0, update.done
        left = elapsed / done * ((update.total or 0.0) - done) if done else None
        text, total = f"{name}: {update.text}", update.total
        self._bar.update(
            task.id, description=text, total=total, completed=done, left=left, at=elapsed
        )

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
