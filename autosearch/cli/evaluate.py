"""``autosearch evaluate``: the only command that reads the test split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from autosearch.contracts import SCORED, TrialRecord, canonical_key
from autosearch.errors import StudyError

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.storage import StudyFolder
    from autosearch.study import FinalEvaluator

console = Console()

INTERRUPTED = 130
"""Exit code where not all trials asked for were evaluated."""


def evaluate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    trial: Annotated[
        list[int] | None, typer.Option("--trial", min=0, help="A trial's number; repeatable.")
    ] = None,
    front: Annotated[
        bool, typer.Option("--front", help="All trials of the Pareto front.")
    ] = False,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Bootstrap resamples of an interval.")
    ] = 1000,
    force: Annotated[
        bool, typer.Option("--force", help="Also trials that have been evaluated before.")
    ] = False,
) -> None:
    """Measure trials on the test split, which no search reads: the final figures.

    Fits each again as the search did, chooses thresholds on validation, and stores the metrics
    of the test split, overall and by anomaly type, with 95 % bootstrap intervals over images.
    Ctrl-C keeps what is finished.
    """
    from autosearch.cli import final_view
    from autosearch.cli.console import warnings
    from autosearch.contracts import registry
    from autosearch.storage import StudyFolder

    folder = StudyFolder.open(directory)
    objectives = registry.resolve_objectives(folder.load_spec())
    records = folder.records()
    directions = {name: objective.direction for name, objective in objectives.items()}
    chosen = _chosen(folder, records, trial or [], directions if front else None)
    stopped = False
    try:
        _evaluate_all(folder, records, chosen, resamples, force)
    except KeyboardInterrupt:
        stopped = True
    tests = folder.load_tests()
    found = [record for record in chosen if record.number in tests]
    if len(found) == 1:
        _print_all(final_view.final_tables(tests[found[0].number]))
    elif found:
        _print_all(final_view.evaluated_table(found, objectives, tests))
    meta = folder.load_meta()
    _print_all(
        warnings(meta), final_view.final_warnings({r.number: tests[r.number] for r in found})
    )
    if stopped:
        onward = "." if force else "; the same command goes on."
        console.print(f"Stopped; {len(found)} of {len(chosen)} trials have figures{onward}")
        raise typer.Exit(INTERRUPTED)
    console.print(
        f"Kept in {folder.path}/trials; by type: autosearch show {folder.path} --trial N"
    )


def _chosen(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    numbers: Sequence[int],
    directions: Mapping[str, str] | None,
) -> list[TrialRecord]:
    """The trials asked for, each once: by number, and the front where directions are given."""
    from autosearch.study import front

    if not numbers and directions is None:
        raise StudyError(f"{folder.path}: which trials? Give --trial N, or --front for the front")
    for number in numbers:
        if number >= len(records):
            raise StudyError(f"{folder.path}: no trial {number}; there are {len(records)}")
        if records[number].status not in SCORED:
            raise StudyError(f"{folder.path}: trial {number} is {records[number].status}")
    listed = [records[number] for number in numbers]
    listed += front(records, directions) if directions is not None else []
    if not listed:
        raise StudyError(f"{folder.path}: no complete trial, so no front to evaluate")
    return list({record.number: record for record in listed}.values())


def _evaluate_all(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    chosen: Sequence[TrialRecord],
    resamples: int,
    force: bool,
) -> None:
    """Evaluate and store those trials whose figures are missing or of another test split."""
    from autosearch.data import load_test_set
    from autosearch.study import FinalEvaluator, reopen

    with _reading("reading the test split") as progress:
        test, info = load_test_set(folder.load_spec().dataset, progress)
    known = {
        number: figures
        for number, figures in ({} if force else folder.load_tests()).items()
        if figures.get("data", {}).get("sha256") == info["sha256"] and number < len(records)
    }
    pending = [record for record in chosen if record.number not in known]
    if len(pending) < len(chosen):
        skipped = len(chosen) - len(pending)
        console.print(f"{skipped} evaluated before and skipped; --force evaluates again")
    if not pending:
        return
    with _reading("reading train and validation") as progress:
        inputs = reopen(folder, progress)
    by_key = {canonical_key(records[number].canonical): known[number] for number in known}
    evaluator = FinalEvaluator(inputs, test, info, resamples)
    work = {"fit": len(inputs.data.train), "validation": len(inputs.data.val)}
    work |= {"test": len(test), "intervals": len(test)}
    _evaluate_pending(folder, pending, by_key, evaluator, work)


def _evaluate_pending(
    folder: StudyFolder,
    pending: Sequence[TrialRecord],
    by_key: dict[str, dict[str, Any]],
    evaluator: FinalEvaluator,
    work: dict[str, int],
) -> None:
    """Evaluate each canonical configuration once; ``work`` is images by stage, for the bar."""
    missing = {canonical_key(record.canonical) for record in pending} - by_key.keys()
    with _Bar(work, len(missing)) as bar:
        for record in pending:
            key = canonical_key(record.canonical)
            if key not in by_key:
                by_key[key] = evaluator(record, partial(bar.stage, record.number))
            figures = by_key[key]
            source = figures["trial"] if figures["same_as"] is None else figures["same_as"]
            same_as = None if source == record.number else source
            own = {**figures, "trial": record.number, "same_as": same_as}
            folder.write_test(record.number, own)
            if not console.is_terminal:
                console.print(f"trial {record.number} evaluated", highlight=False)


class _Bar:
    """Progress over the stages of all evaluations, with the time left; terminals only.

    Args:
        work: Stages of one evaluation, in order, and what share of the work each is.
        evaluations: How many there will be.
    """

    def __init__(self, work: Mapping[str, int], evaluations: int) -> None:
        self._work, self._begun = work, 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.percentage:.0f} %"),
            _TimeLeft(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        total = evaluations * sum(work.values())
        self._task = self._bar.add_task("evaluating", total=total, left=None, at=0.0)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def stage(self, number: int, name: str) -> None:
        """Trial ``number`` begins the stage ``name``; those before it are done."""
        names = list(self._work)
        before = sum(self._work[done] for done in names[: names.index(name)])
        done = self._begun * sum(self._work.values()) + before
        if name == names[-1]:
            self._begun += 1
        task = self._bar.tasks[0]
        elapsed, total = task.elapsed or 0.0, task.total or 0.0
        left = elapsed / done * (total - done) if done else None
        self._bar.update(
            self._task,
            description=f"trial {number}: {name}",
            completed=done,
            left=left,
            at=elapsed,
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


@contextmanager
def _reading(what: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_all(*groups: Iterable[Any]) -> None:
    for group in groups:
        for line in group:
            console.print(line, highlight=False)
