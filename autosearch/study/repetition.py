"""Configurations evaluated several times with other seeds: a training is a single draw.

All runs of a trial stand in its file ``repeats.json``, the first being the one that any other
version of the trial would have been: ``{"runs": [{"seed": …, "figures": {name: value}}]}``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autosearch.contracts import (
    Assignment,
    Outcome,
    Progress,
    Status,
    TrialRecord,
    derived_seed,
)
from autosearch.errors import StudyError
from autosearch.spec import Params
from autosearch.storage import REPEATS, Run

if TYPE_CHECKING:  # What evaluates a trial must not load Optuna.
    from autosearch.storage import StudyFolder

Steps = Callable[[Assignment], Iterator[Progress | Outcome]]

DEVIATION = "_sd"
"""What follows the name of a figure whose standard deviation over runs is stored."""


@dataclass(frozen=True)
class Repeated:
    """A figure over the runs of a trial.

    Attributes:
        mean: Over all runs.
        deviation: Standard deviation over runs, with n - 1 in the denominator; 0 for one run.
        runs: How many there are.
    """

    mean: float
    deviation: float
    runs: int


def repeated_steps(
    once: Steps, assignment: Assignment, repeats: int, cumulative: Collection[str] = ()
) -> Iterator[Progress | Outcome]:
    """Evaluate a configuration with several seeds, one run after the other.

    Args:
        once: Evaluates with the seed of an assignment.
        assignment: The trial; its own seed is that of the first run.
        repeats: How many runs.
        cumulative: Objectives that only grow while a trial trains; see `Objective`.

    Yields:
        How the trial stands, over the runs so far; then one outcome. Objectives and measured
        values are means, beside each that varies stands its standard deviation; artifacts are
        those of the first run. What ends one run otherwise than complete ends the trial.
    """
    done: list[Outcome] = []
    for index in range(repeats):
        own = replace(assignment, seed=run_seed(assignment.seed, index))
        post = done[0].post if done else None
        if post is not None:
            # The first run has chosen among settings for all.
            own = replace(own, params=post["params"], canonical=post["canonical"], others=())
        for step in once(own):
            if isinstance(step, Progress):
                yield _so_far(done, step, repeats, cumulative)
            elif step.status != Status.COMPLETE:
                yield step if post is None else replace(step, post=post)
                return
            else:
                done.append(step)
    yield _combined(done, assignment)


def repeat_trials(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    once: Callable[[Assignment], Outcome],
    seed_of: Callable[[Params], int],
    repeats: int,
    told: Callable[[TrialRecord, int, int], None] = lambda record, done, total: None,
) -> None:
    """Evaluate trials again until each has so many runs; what was run before is kept.

    Args:
        folder: The study's.
        records: Trials with values.
        once: Evaluates once, with the seed of an assignment.
        seed_of: Seed of a trial from its canonical configuration.
        repeats: Runs wanted of each, the trial itself included.
        told: Told of the trial at hand before each run, of runs done and of all.

    Raises:
        StudyError: A run failed, with its reason.
    """
    runs = {record.number: list(folder.files.load_runs(record.number)) for record in records}
    for record in records:
        runs[record.number] = runs[record.number] or [first_run(record, seed_of)]
    total = sum(max(0, repeats - len(known)) for known in runs.values())
    done = 0
    for record in records:
        known = runs[record.number]
        while len(known) < repeats:
            told(record, done, total)
            seed = run_seed(known[0].seed, len(known))
            assignment = Assignment(record.number, record.params, record.canonical, seed)
            outcome = once(assignment)
            if outcome.status != Status.COMPLETE:
                raise StudyError(
                    f"trial {record.number}, run {len(known)}: {outcome.status}: {outcome.reason}"
                )
            known.append(Run(seed=seed, figures={**outcome.measured, **outcome.values}))
            folder.files.write_runs(record.number, known)
            done += 1
    for record in records:
        told(record, done, total)


def run_seed(seed: int, index: int) -> int:
    """Seed of a run of a trial, the first being the trial's own."""
    return seed if index == 0 else derived_seed(seed, "run", index)


def first_run(record: TrialRecord, seed_of: Callable[[Params], int]) -> Run:
    """A trial that was evaluated once, as its first run."""
    seed = seed_of(record.canonical)
    return Run(seed=seed, figures={**_numbers(record.measured), **record.values})


def of_first_run(record: TrialRecord, runs: Sequence[Run]) -> TrialRecord:
    """The record as its first run alone would have left it; without runs it stays as it is."""
    if not runs:
        return record
    figures = runs[0].figures
    return replace(
        record,
        values={name: figures.get(name, value) for name, value in record.values.items()},
        measured={**record.measured, **{n: v for n, v in figures.items() if n in record.measured}},
    )


def over_runs(runs: Sequence[Run]) -> dict[str, Repeated]:
    """Every figure that all runs have."""
    if not runs:
        return {}
    names = [n for n in runs[0].figures if all(n in run.figures for run in runs)]
    return {name: _repeated([run.figures[name] for run in runs]) for name in names}


def _repeated(values: Sequence[float]) -> Repeated:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Repeated(statistics.fmean(values), deviation, len(values))


def _so_far(
    done: Sequence[Outcome], step: Progress, repeats: int, cumulative: Collection[str]
) -> Progress:
    """How a trial stands in the middle of a run: the mean of this run and those before.

    Of what only grows, all runs have their share in the mean; those to come have spent nothing.
    """
    values = {}
    for name, value in step.values.items():
        known = [value, *(outcome.values[name] for outcome in done)]
        values[name] = sum(known) / (repeats if name in cumulative else len(known))
    return Progress((len(done) + step.fraction) / repeats, values)


def _combined(outcomes: Sequence[Outcome], assignment: Assignment) -> Outcome:
    """One outcome of several runs."""
    first = outcomes[0]
    runs = [
        Run(seed=run_seed(assignment.seed, index), figures={**o.measured, **o.values})
        for index, o in enumerate(outcomes)
    ]
    over = over_runs(runs)
    measured = {name: over[name].mean if name in over else v for name, v in first.measured.items()}
    measured |= {n + DEVIATION: found.deviation for n, found in over.items() if found.deviation}
    content = {"runs": [run.model_dump() for run in runs]}
    return replace(
        first,
        values={name: over[name].mean for name in first.values},
        measured=measured,
        violations=_means([outcome.violations for outcome in outcomes]),
        seconds=_sums([outcome.seconds for outcome in outcomes]),
        artifacts={**first.artifacts, REPEATS: json.dumps(content).encode()},
    )


def _means(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(part[name] for part in parts) for name in parts[0]}


def _sums(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(sum(part.get(name, 0.0) for part in parts), 6) for name in parts[0]}


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, (int, float))}
