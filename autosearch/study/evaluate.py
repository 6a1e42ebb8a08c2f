"""Which trials and ensembles still need figures of the test split, and giving them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from autosearch.contracts import TrialRecord, canonical_key, ensemble_name
from autosearch.data import load_test_set
from autosearch.spec import Override
from autosearch.storage import StudyFolder
from autosearch.study.ensemble import members_of
from autosearch.study.final import Evaluated, FinalEvaluator
from autosearch.study.fitted import Fit
from autosearch.study.inputs import Inputs
from autosearch.study.repetition import of_first_run

Part = Callable[[TrialRecord, str, float, float], None]
"""Told of the trial at hand, the part of its evaluation that begins, work done and all work."""


def evaluate_trials(
    folder: StudyFolder,
    chosen: Sequence[TrialRecord],
    reopened: Callable[[], Inputs],
    resamples: int = 1000,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    part: Part = lambda record, name, done, total: None,
    moved: Iterable[Override] = (),
    fit: Fit = "all",
) -> None:
    """Measure and store what trials reach on the test split; each configuration once.

    Args:
        folder: The study's.
        chosen: Trials with values.
        reopened: Loads what the study was made from; asked only if something is to be measured.
        resamples: Bootstrap resamples of an interval.
        force: Measure again what was measured on the same test split before.
        progress: Told of images of the test split read, and their total.
        part: Told how the evaluations come along, in images; ``known`` for what is taken as it
            is, ``kept`` when a trial's figures are stored.
        moved: See `autosearch.study.inputs.reopen`.
        fit: What detectors are fitted on, as `autosearch.study.fitted.fit_of` gives it; what was
            measured of another fit is measured again.
    """
    records = folder.trials.records()
    test, info = load_test_set(folder.load_spec(moved).dataset, progress)
    known = {
        number: figures
        for number, figures in ({} if force else folder.files.load_tests()).items()
        if figures.get("data", {}).get("sha256") == info["sha256"]
        and figures.get("fit", "train") == fit
        and number < len(records)
    }
    pending = [record for record in chosen if record.number not in known]
    for record in chosen:
        if record.number in known:
            part(record, "known", 0, 0)
    if not pending:
        return
    inputs = reopened()
    by_key = {
        canonical_key(records[number].canonical): _kept(folder, number, figures)
        for number, figures in known.items()
    }
    work = _work(inputs, len(test), fit)
    missing = {canonical_key(record.canonical) for record in pending} - by_key.keys()
    total, done = len(missing) * sum(work.values()), 0
    evaluator = FinalEvaluator(inputs, test, info, resamples, fit)
    for record in pending:
        key = canonical_key(record.canonical)
        if key not in by_key:
            single = of_first_run(record, folder.files.load_runs(record.origin))
            by_key[key] = evaluator(single, _stages(record, work, done, total, part))
            done += sum(work.values())
        figures, drawn = by_key[key]
        # In this order: figures without resamples would look like those of earlier versions.
        if drawn is not None:
            folder.files.write_resamples(record.number, drawn)
        folder.files.write_test(record.number, _own(record, figures))
        part(record, "kept", done, total)


def evaluate_ensemble(
    folder: StudyFolder,
    numbers: Sequence[int],
    reopened: Callable[[], Inputs],
    resamples: int = 1000,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
    part: Callable[[str, float, float], None] = lambda name, done, total: None,
    moved: Iterable[Override] = (),
    fit: Fit = "all",
) -> str:
    """Measure and store what trials reach on the test split as one detector.

    Args:
        folder: The study's.
        numbers: Of its trials.
        reopened: See `evaluate_trials`; so are all others but ``part``.
        resamples: Bootstrap resamples of an interval.
        force: Measure again what was measured before.
        progress: Told of images of the test split read.
        part: Told what is being done, work done and all work; ``known`` and ``kept`` likewise.
        moved: Where the images lie now.
        fit: What the detector is fitted on.

    Returns:
        The ensemble's name.

    Raises:
        ConfigError: The numbers make no ensemble; see `members_of`.
        StudyError: There is no such trial, or it has no values.
    """
    records = members_of(folder, numbers)
    name = ensemble_name(record.number for record in records)
    test, info = load_test_set(folder.load_spec(moved).dataset, progress)
    before = None if force else folder.files.load_ensembles().get(name)
    if before is not None and (before["data"]["sha256"], before["fit"]) == (info["sha256"], fit):
        part("known", 0, 0)
        return name
    inputs = reopened()
    work = _work(inputs, len(test), fit)
    total = sum(work.values())
    evaluator = FinalEvaluator(inputs, test, info, resamples, fit)
    figures, drawn = evaluator(records, lambda stage: part(stage, _before(work, stage), total))
    if drawn is not None:
        folder.files.write_resamples(name, drawn)
    folder.files.write_test(name, figures)
    part("kept", total, total)
    return name


def _work(inputs: Inputs, test: int, fit: Fit) -> dict[str, int]:
    """Images that each part of an evaluation takes, in order."""
    train, val = inputs.data.train, inputs.data.val
    work = {"fit": len(train), "validation": len(val)}
    work |= {"refit": len(train) + int((~val.labels).sum())} if fit == "all" else {}
    return {**work, "test": test, "intervals": test}


def _before(work: Mapping[str, int], name: str) -> int:
    """Images of all parts before one."""
    names = list(work)
    return sum(work[n] for n in names[: names.index(name)])


def _kept(folder: StudyFolder, number: int, figures: dict[str, Any]) -> Evaluated:
    """What was stored of an evaluated trial."""
    drawn = folder.files.load_resamples(number, figures["bootstrap"]["resamples"])
    return Evaluated(figures, drawn)


def _stages(
    record: TrialRecord, work: Mapping[str, int], done: int, total: int, part: Part
) -> Callable[[str], None]:
    """A callback for the parts of one evaluation."""

    def begin(name: str) -> None:
        part(record, name, done + _before(work, name), total)

    return begin


def _own(record: TrialRecord, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures under a trial's own number, naming the equal trial that was evaluated."""
    source = figures["trial"] if figures["same_as"] is None else figures["same_as"]
    same_as = None if source == record.number else source
    return {**figures, "trial": record.number, "same_as": same_as}
