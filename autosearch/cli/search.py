"""``autosearch run`` and ``autosearch resume``: a search with its progress in the terminal."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosearch.cli.completion import space_names
from autosearch.cli.options import (
    AddressOption,
    CategoryOption,
    DataOption,
    Directory,
    ExecutorName,
    ExecutorOption,
    LevelOption,
    LogLevel,
    Overrides,
    StorageOption,
    Timeout,
    Trials,
    hidden,
)
from autosearch.cli.repeat import runs_of
from autosearch.cli.screen import INTERRUPTED, console, print_all, print_unbroken, reading_bar
from autosearch.errors import one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Searched, Study, Update
    from autosearch.cli.console import SearchProgress
    from autosearch.contracts import TrialRecord


def run(
    space: Annotated[
        str,
        typer.Argument(
            metavar="SPACE",
            help="A YAML file, or a name: `autosearch spaces`.",
            autocompletion=space_names,
        ),
    ],
    overrides: Overrides = None,
    trials: Trials = None,
    timeout: Timeout = None,
    executor: ExecutorOption = ExecutorName.AUTO,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the study and of its folder.")
    ] = None,
    results: Annotated[
        Path, typer.Option("--results", help="Folder that holds the studies.")
    ] = Path("results"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study if it exists.")
    ] = False,
    address: AddressOption = None,
    storage: StorageOption = None,
    log_level: LevelOption = LogLevel.INFO,
) -> None:
    """Search a space: trials, progress, and the Pareto front at the end.

    Ctrl-C stops at once and loses no finished trial.
    """
    from autosearch.api import search

    with _View() as view:
        study = search(
            space,
            overrides or (),
            trials=trials,
            timeout=timeout,
            name=name,
            results=results,
            resume=resume,
            executor=executor,
            address=address,
            storage=hidden(storage),
            log_level=log_level,
            progress=view,
        )
    _conclude(study)


def resume(
    directory: Directory,
    trials: Trials = None,
    timeout: Timeout = None,
    executor: ExecutorOption = ExecutorName.AUTO,
    address: AddressOption = None,
    storage: StorageOption = None,
    log_level: LevelOption = LogLevel.INFO,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Continue a study that was stopped, or give a finished one more trials."""
    from autosearch.api import open_study

    study = open_study(directory, storage=hidden(storage))
    with _View() as view:
        study.resume(
            trials,
            timeout,
            executor=executor,
            address=address,
            log_level=log_level,
            data=data,
            category=category,
            progress=view,
        )
    _conclude(study)


class _View:
    """Shows images being read, then where the data come from, then trials."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._trials: SearchProgress | None = None

    def __enter__(self) -> _View:
        self._reading = self._stack.enter_context(reading_bar())
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, update: Update) -> None:
        """Show an update."""
        if update.stage == "trials" and update.study and update.summary:
            if self._trials is None:
                self._trials = self._begin(update.study, update.summary.budget)
                self._trials.update(update.summary)
                self._stack.enter_context(self._trials.shown())
            else:
                self._trials.update(update.summary, update.trial)
        elif update.stage in ("executor", "tracking"):
            print_unbroken([escape(update.text)])
        elif update.stage == "repeating":
            self._stack.close()
            if update.done < (update.total or 0):
                console.print(f"run {update.done + 1:g} of {update.total:g}: {update.text} …")
        elif self._trials is None:
            self._reading(update)

    def _begin(self, study: Searched, budget: int) -> SearchProgress:
        from autosearch.cli import console as view
        from autosearch.cli.configuration import built_by_default
        from autosearch.contracts import registry

        self._stack.close()
        meta = study.meta
        spec = study.spec
        known = registry.load_runner(spec.study.runner).parameters
        usual = built_by_default(spec.parsed_space, known)
        print_all(view.provenance(meta))
        print_unbroken(map(escape, usual))
        print_all(view.warnings(meta))
        return view.SearchProgress(console, study.objectives, budget)


def _conclude(study: Study) -> None:
    """The front, and what to do next."""
    from autosearch.cli import console as view
    from autosearch.study import taken_over

    records, best = study.trials, study.front
    prevalence = study.spec.dataset.prevalence
    print_unbroken(view.doubt_lines(study.doubt))
    console.print(view.front_table(best, study.objectives, prevalence=prevalence))
    print_unbroken(view.cost_warnings(best, study.objectives))
    print_all(runs_of(study), view.warnings(study.meta))
    print_unbroken(map(escape, taken_over(records)))
    number = study.counts
    place = escape(str(study.path))
    folder = escape(shlex.quote(str(study.path)))
    console.print(f"{view.counts_line(number)}; results in [bold]{place}[/]")
    if not study.stopped and not (number["complete"] or number["cached"]):
        print_unbroken(map(escape, _why_none(records, str(study.path))))
        raise typer.Exit(1)
    if sum(number.values()) - number["running"] < study.budget:
        why = "Stopped" if study.stopped else "Time is up"
        console.print(f"{why}. Continue with: autosearch resume {folder}")
        raise typer.Exit(INTERRUPTED if study.stopped else 0)
    if study.stopped:
        console.print(
            f"Stopped while the front was run again. Continue with: autosearch resume {folder}"
        )
        raise typer.Exit(INTERRUPTED)
    console.print("Next:")
    ways = {name: objective.direction for name, objective in study.objectives.items()}
    for command in view.next_commands(study.path, records, best, ways, study.doubt is None):
        console.print(f"  {command}")


def _why_none(records: Sequence[TrialRecord], path: str) -> Iterator[str]:
    """Why no trial has values, where that is so."""
    yield "No trial completed."
    without = [record for record in records if record.reason]
    if not without:
        return
    (why, times), *_ = Counter((r.status, one_line(r.reason or "")) for r in without).most_common()
    first = next(r.number for r in without if (r.status, one_line(r.reason or "")) == why)
    trials = f"{times} of {len(records)} trials" if len(records) > 1 else "The trial"
    how = why[0] if why[0] == "failed" else f"{'is' if times == 1 else 'are'} {why[0]}"
    yield f"{trials} {how}: {why[1]}"
    yield f"See: autosearch show {shlex.quote(path)} --trial {first}"
