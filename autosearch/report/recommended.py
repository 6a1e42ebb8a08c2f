"""The trial to take, as pages mark it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autosearch.contracts import SCORED, Objective, TrialRecord
from autosearch.errors import StudyError
from autosearch.storage import StudyFolder
from autosearch.study import over_runs, recommend


def recommended(
    folder: StudyFolder,
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    known: Mapping[str, Objective],
    doubt: str | None,
) -> dict[str, Any] | None:
    """Number and reasons of the trial that `autosearch.study.recommend` names without a budget.

    Args:
        folder: The study's, for figures of trials that were run several times.
        records: Its trials.
        objectives: The study's, in its order.
        known: All that can be measured.
        doubt: Why validation cannot tell the trials apart; then none is named by a rule that
            goes by one figure alone.

    Returns:
        ``number``, ``reasons``, a list of texts, and ``runners_up``, numbers of the next best of
        other configurations; None where there is none.
    """
    if not any(record.status in SCORED for record in records):
        return None
    try:
        runs = {r.number: over_runs(folder.files.load_runs(r.origin)) for r in records}
    except StudyError:
        return None  # A page shows what can be read.
    several = {number: figures for number, figures in runs.items() if figures}
    found = recommend(records, objectives, known, (), runs=several, doubt=doubt)
    if found.doubt is not None:
        return None
    return {
        "number": found.trial.number,
        "reasons": list(found.reasons),
        "runners_up": [record.number for record in found.runners_up],
    }
