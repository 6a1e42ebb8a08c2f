"""What the trials of a study come to: how many there are of each kind, and which are the best."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from autosearch.contracts import SCORED, Status, TrialRecord
from autosearch.metrics import pareto


def counts(records: Iterable[TrialRecord]) -> dict[str, int]:
    """Number of trials of every status; they add up to all trials."""
    found = Counter(record.status for record in records)
    order = ("complete", "failed", "infeasible", "pruned", "running", "cached")
    return {name: found[Status(name)] for name in order}


def taken_over(records: Iterable[TrialRecord]) -> list[str]:
    """One line for each earlier study that trials have their values from."""
    found = Counter(record.taken_from[0] for record in records if record.taken_from)
    return [
        f"{number} trial{'s' if number > 1 else ''} taken over from {folder}, not evaluated again"
        for folder, number in found.items()
    ]


def front(records: Sequence[TrialRecord], directions: Mapping[str, str]) -> list[TrialRecord]:
    """Non-dominated trials, ordered by the first objective; of equal ones the earliest.

    Args:
        records: Trials of one study.
        directions: Objective name to ``minimize`` or ``maximize``.
    """
    scored = [record for record in records if record.status in SCORED]
    if not scored:
        return []
    table = [[record.values[name] for name in directions] for record in scored]
    chosen = pareto.front(table, list(directions.values()))
    first = next(iter(directions))
    return sorted((scored[i] for i in chosen), key=lambda record: record.values[first])


def front_csv(records: Sequence[TrialRecord]) -> str:
    """Trials as CSV: number, objectives, measured values, parameters.

    Where values of some were taken over from an earlier study, a column says from which trial.
    """
    columns = ["number", *(["taken_from"] if any(r.taken_from for r in records) else [])]
    for part in ("values", "measured", "params"):
        columns += dict.fromkeys(name for record in records for name in getattr(record, part))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                **({"taken_from": record.source} if record.source else {}),
                **{"number": record.number, **record.params, **record.measured, **record.values},
            }
        )
    return out.getvalue()
