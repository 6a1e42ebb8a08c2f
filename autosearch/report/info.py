"""What a study's folder holds, as plain records that become JSON for the view.

Trials stand as columns, since thousands of them travel to a browser. Numbers are rounded to six
significant digits; what is missing or not finite is None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autosearch.contracts import SCORED, Objective, Status, TrialRecord, registry
from autosearch.errors import StudyError
from autosearch.report.analysis import (
    MOST_OBJECTIVES,
    attainment,
    hypervolume_curve,
    parameter_importance,
    value_box,
)
from autosearch.report.provenance import header, warnings
from autosearch.report.recommended import recommended
from autosearch.storage import StudyFolder
from autosearch.study import (
    compared,
    counts,
    figure_of,
    front,
    indistinct,
    order_warning,
    taken_over,
)

Info = dict[str, Any]

CURVES = "curves.json"
"""Artifact with the curves of a training; see `autosearch.report.curves`."""

ARTIFACTS = {
    "maps.jpg": "image/jpeg",
    "locations.jpg": "image/jpeg",
    CURVES: "application/json",
    "traceback.txt": "text/plain; charset=utf-8",
}
"""Files of a trial that may be shown, and their media types."""

STATUSES = [str(status) for status in Status]
"""What the numbers in the column ``status`` stand for."""


def study_info(folder: StudyFolder) -> Info:
    """All that a report shows of one study.

    Returns:
        ``name`` (of the folder) and ``folder`` (as given, for commands); ``title``, ``runner``,
        ``budget``, ``sampler``, ``parameters`` (name to YAML form); ``objectives`` (name,
        direction, unit, help, in the study's order); ``compared``, names of what trials are
        compared by, objectives first of all; ``figures``, the same as of objectives for
        everything that is measured; ``header`` and ``warnings``; ``counts`` by status;
        ``trials``, columns of equal length: number, status (index into ``statuses``), duration,
        and by name params, canonical, figures (objectives included, whatever the status) and
        seconds; ``reasons`` (also where values of an earlier study were taken over), ``notes``
        (text, and when it was written; in this folder also where trials are ``in_database``) and
        ``cached_from`` by trial number; ``front``, numbers of
        the non-dominated trials;
        ``hypervolume`` after each trial as a share of the box of
        `autosearch.report.analysis.value_box`, None beyond three objectives; ``importance`` by
        objective and parameter; ``files``, the trials that have each of `ARTIFACTS`; ``tests``,
        by trial number what it reached on the test split: metrics, intervals and types as
        `autosearch.study.final` describes them, images, level of the intervals, unit of their
        resamples and types with too few of them, what was fitted on, and whether the validation
        figures were reproduced; ``ensembles``, the same of several trials as one detector, each
        with its ``name`` and objectives as ``figures``; ``doubt``, why validation cannot tell the
        trials apart, or None; ``recommended``, as `autosearch.report.recommended` says.

    Raises:
        StudyError: The folder cannot be read.
        ConfigError: The spec names an objective that is not installed here.
    """
    spec, records, meta = folder.load_spec(), folder.trials.records(), folder.load_meta()
    known = registry.objectives(meta=meta)
    objectives = registry.resolve_objectives(spec, known)
    directions: dict[str, str] = {name: o.direction for name, o in objectives.items()}
    trials = _trials(records, compared(objectives), list(spec.parsed_space.to_plain()))
    best = front(records, directions)
    misled = order_warning(best, list(objectives))
    doubt = indistinct(records, objectives, meta.get("data") or {}, spec.dataset.prevalence)
    said = f"{doubt[0].upper()}{doubt[1:]}." if doubt else None
    notes, unread = _notes(folder)
    return {
        "name": folder.path.resolve().name,
        "folder": str(folder.path),
        "title": spec.study.name,
        "runner": spec.study.runner,
        "budget": spec.study.trials,
        "sampler": spec.sampler.name,
        "parameters": spec.parsed_space.to_plain(),
        "objectives": [_described(name, known) for name in objectives],
        "compared": compared(objectives),
        "figures": {name: _described(name, known) for name in trials["figures"]},
        "header": [
            *header(spec, meta, trials["figures"]),
            *(["Taken over", line] for line in taken_over(records)),
        ],
        "warnings": [*warnings(meta), *(text for text in (said, misled, unread) if text)],
        "doubt": doubt,
        "recommended": recommended(folder, records, objectives, known, doubt),
        "counts": counts(records),
        "statuses": STATUSES,
        "trials": trials,
        "reasons": {str(r.number): why for r in records if (why := _why(r))},
        "notes": notes,
        "in_database": folder.database is not None,
        "cached_from": {
            str(r.number): r.cached_from for r in records if r.cached_from is not None
        },
        "front": [record.number for record in best],
        "hypervolume": _hypervolume(records, directions),
        "importance": {
            objective: {name: _plain(share) for name, share in shares.items()}
            for objective, shares in parameter_importance(
                records, spec.parsed_space, directions
            ).items()
        },
        "files": _files(folder),
        "tests": {
            str(number): _tested(kept) for number, kept in folder.files.load_tests().items()
        },
        "ensembles": [
            {"name": name, "figures": _rounded(kept["validation"]["objectives"]), **_tested(kept)}
            for name, kept in folder.files.load_ensembles().items()
        ],
    }


def view_data(studies: Sequence[Info]) -> Info:
    """What the view draws: studies, how they compare, and when this was put together.

    Studies with the same runner, space and objectives, such as repetitions with other seeds, form
    a group; ``comparison`` has one entry for each group of two or more. Names that stand twice
    are replaced by the folders' paths.

    Args:
        studies: As `study_info` gives them; not changed.
    """
    names = [study["name"] for study in studies]
    named = [
        study | {"name": study["folder"]} if names.count(study["name"]) > 1 else study
        for study in studies
    ]
    groups: dict[str, list[int]] = {}
    for place, study in enumerate(studies):
        alike = [study["runner"], study["parameters"], study["objectives"]]
        groups.setdefault(repr(alike), []).append(place)
    return {
        "studies": named,
        "comparison": [
            _compared(studies, places) for places in groups.values() if len(places) > 1
        ],
        "generated": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def artifact_path(folder: StudyFolder, number: int, name: str) -> Path | None:
    """Path of a file of a trial that may be shown, or None.

    Only names in `ARTIFACTS` are looked for, and only regular files that lie in the trial's own
    folder once every link is followed: no name and no link leads elsewhere.
    """
    if name not in ARTIFACTS or isinstance(number, bool) or number < 0:
        return None
    path = folder.files.path(number) / name
    try:
        inside = folder.path.resolve(strict=True) / "trials" / str(number) / name
        return path if path.is_file() and path.resolve(strict=True) == inside else None
    except OSError:
        return None


def _trials(
    records: Sequence[TrialRecord], first: Sequence[str], parameters: Sequence[str]
) -> dict[str, Any]:
    figures = [_figures(record) for record in records]
    return {
        "number": [record.number for record in records],
        "status": [STATUSES.index(record.status) for record in records],
        "duration": [_plain(record.duration) for record in records],
        "params": _columns([record.params for record in records], parameters),
        "canonical": _columns([record.canonical for record in records]),
        "figures": _columns(figures, first),
        "seconds": _columns([record.seconds for record in records]),
    }


def _why(record: TrialRecord) -> str:
    """Why a trial has no values, or where it has them from, or what they are the best of."""
    taken = f"taken over from {record.source}, not evaluated again" if record.source else ""
    return "; ".join(filter(None, (record.reason, taken, record.settings)))


def _figures(record: TrialRecord) -> Info:
    names = dict.fromkeys([*record.measured, *record.values, *compared(record.values)])
    return {name: v for name in names if _is_number(v := figure_of(record, name))}


def _notes(folder: StudyFolder) -> tuple[dict[str, Info], str | None]:
    """Notes by trial number, and why there are none; figures can be seen without them."""
    try:
        return {str(n): note.model_dump() for n, note in folder.load_notes().items()}, None
    except StudyError as error:
        return {}, f"Notes: {error}."


def _files(folder: StudyFolder) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {name: [] for name in ARTIFACTS}
    for path in folder.path.glob("trials/*/*"):
        if path.name in found and path.parent.name.isdecimal():
            found[path.name].append(int(path.parent.name))
    return {name: sorted(numbers) for name, numbers in found.items()}


def _tested(kept: Mapping[str, Any]) -> Info:
    def figures(part: Mapping[str, Any]) -> Info:
        metrics, intervals = part.get("metrics", {}), part.get("intervals", {})
        return {
            "metrics": _rounded(metrics),
            "intervals": {
                name: [_plain(end) for end in ends] for name, ends in intervals.items() if ends
            },
        }

    types = kept.get("types", {}).items()
    several = {k: _rounded(v["metrics"]) for k, v in kept.get("categories", {}).items()}
    known = figures(kept) | ({"categories": several} if several else {})
    return known | {
        "types": {kind: {"images": part.get("images"), **figures(part)} for kind, part in types},
        "images": kept.get("data", {}).get("images"),
        "level": kept.get("bootstrap", {}).get("level"),
        "unit": kept.get("bootstrap", {}).get("unit"),
        "too_few": kept.get("bootstrap", {}).get("too_few", []),
        "fit": kept.get("fit", "train"),
        "fitted_on": kept.get("fitted_on"),
        "reproduced": kept.get("validation", {}).get("reproduced", True),
    }


def _columns(rows: Sequence[Mapping[str, Any]], first: Iterable[str] = ()) -> dict[str, list[Any]]:
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    # A value of None that was chosen is told from one that is absent by the word for it.
    return {
        name: ["none" if row.get(name, 0) is None else _plain(row.get(name)) for row in rows]
        for name in names
    }


def _rounded(values: Mapping[str, Any]) -> Info:
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return _shortest(float(f"{value:.6g}")) if math.isfinite(value) else None
    return value


def _shortest(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _described(name: str, known: Mapping[str, Objective]) -> dict[str, str]:
    if name not in known:
        return {"name": name, "direction": "", "unit": "", "help": ""}
    objective = known[name]
    return {
        "name": name,
        "direction": objective.direction,
        "unit": objective.unit,
        "help": objective.help,
    }


def _table(records: Sequence[TrialRecord], names: Iterable[str]) -> list[list[float]]:
    listed = list(names)
    return [
        [r.values.get(name, math.nan) if r.status in SCORED else math.nan for name in listed]
        for r in records
    ]


def _hypervolume(
    records: Sequence[TrialRecord], directions: Mapping[str, str]
) -> list[float | None] | None:
    if len(directions) > MOST_OBJECTIVES:
        return None
    table = _table(records, directions)
    if not any(record.status in SCORED for record in records):
        return [None] * len(records)
    box = value_box(table, list(directions.values()))
    return [_plain(share) for share in hypervolume_curve(table, box)]


def _compared(studies: Sequence[Info], places: Sequence[int]) -> dict[str, Any]:
    # Cost first, so that attainment reads as quality within a budget.
    objectives = sorted(
        studies[places[0]]["objectives"], key=lambda one: bool(one["direction"] == "maximize")
    )
    names = [objective["name"] for objective in objectives]
    directions = [objective["direction"] for objective in objectives]
    tables = [_scored_table(studies[place], names) for place in places]
    rows = [row for table in tables for row in table if not math.isnan(row[0])]
    result: Info = {"studies": list(places), "attainment": None, "hypervolume": None}
    if rows and len(names) == 2:
        bands = attainment(tables, directions)
        result["attainment"] = {"names": names} | {
            key: [_plain(value) for value in curve] for key, curve in bands.items()
        }
    if rows and len(names) <= MOST_OBJECTIVES:
        box = value_box(rows, directions)
        curves = [[_plain(v) for v in hypervolume_curve(table, box)] for table in tables]
        after = list(zip(*curves, strict=False))
        result["hypervolume"] = {
            "curves": curves,
            "mean": [_plain(sum(shares) / len(shares)) for shares in after],
            "low": [min(shares) for shares in after],
            "high": [max(shares) for shares in after],
        }
    return result


def _scored_table(study: Info, names: Sequence[str]) -> list[list[float]]:
    """Objective values as `_table` gives them, from the columns of `study_info`."""
    scored = {STATUSES.index(status) for status in SCORED}
    figures = [study["trials"]["figures"][name] for name in names]
    rows = zip(study["trials"]["status"], *figures, strict=True)
    return [
        [math.nan if value is None or status not in scored else value for value in row]
        for status, *row in rows
    ]
