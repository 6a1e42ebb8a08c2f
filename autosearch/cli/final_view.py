"""Test figures for people and programs: tables, and columns beside those of the search.

They are as `autosearch.study.final` describes them; nothing here loads what it takes to make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from autosearch.cli.category_view import category_tables
from autosearch.cli.tables import filled, plain_table
from autosearch.contracts import Objective, TrialRecord, called, ensemble_name
from autosearch.data import NORMAL
from autosearch.metrics import bootstrap
from autosearch.study import compared, figure_of

if TYPE_CHECKING:
    from autosearch.study import Comparison

Tests = Mapping[int, Mapping[str, Any]]
"""Test figures by trial number."""

Every = Mapping[int | str, Mapping[str, Any]]
"""The same, and those of ensembles by name."""

Row = tuple[str, Mapping[str, Any], Callable[[str], float | None]]
"""What a row is called, test figures, and what is known of a figure by the search's validation."""

_TESTED = (
    "rwap",
    "ap",
    "rwap_calibrated",
    "ap_calibrated",
    "pixel_auroc",
    "aupro",
    "image_auroc",
    "image_ap",
    "iou_half",
)
_CALIBRATED, _ALARMS = "_calibrated", "image_fpr_at_val"
_PRECISION = ("rwap", "ap")
"""Figures that depend on how many pixels of a split are anomalous."""


def evaluated_table(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    tests: Tests,
    comparisons: Sequence[Comparison] = (),
    doubt: str | None = None,
    ensembles: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Iterable[RenderableType]:
    """Trials with their objectives, validation and test side by side.

    Args:
        records: Trials that have test figures.
        objectives: The study's, in its order.
        tests: Test figures by trial number.
        comparisons: Of some of these trials to one and the same trial.
        doubt: What `autosearch.study.indistinct` says of validation, if anything.
        ensembles: Test figures of several trials as one detector, by name; further rows.
    """
    rows: list[Row] = [
        *((str(r.number), tests[r.number], partial(figure_of, r)) for r in records),
        *_ensemble_rows(ensembles),
    ]
    found = [figures for _, figures, _ in rows]
    prevalence = next(filter(None, (figures.get("prevalence") for figures in found)), None)
    names = tested_names(objectives, found)
    others = [name for name in compared(objectives) if name not in names]
    main = list(dict.fromkeys(comparable(name, prevalence) for name in names))
    raw = [name for name in names if name not in main]
    also = [name for name in ("ap", "aupro", "image_auroc") if name not in names]
    also += [] if _anomalous(found[0]) else [_ALARMS]
    validated = [figures["validation"] for figures in found]
    columns = [
        (name.replace("_", "_\n"), [_measured(known(name)) for _, _, known in rows])
        for name in others
    ]
    for name in main:
        title = titled(name, prevalence)
        columns += [
            (f"{title}\nvalidation", [_figure(part, name) for part in validated]),
            (f"{title}\ntest [95 %]", [with_interval(part, name) for part in found]),
        ]
    if comparisons:
        differences = {str(one.trial): _difference(one, names[0]) for one in comparisons}
        head = f"{names[0]}, difference\nto {called(comparisons[0].against)} [95 %]"
        columns.append((head, [differences.get(name, "-") for name, _, _ in rows]))
    numbers = [name for name, _, _ in rows]
    first = filled("trial", numbers, columns)
    if comparisons:
        first.padding = (0, 1, 0, 0)  # So that 80 columns are enough.
    columns = [
        (f"{name}\n{head}", [_figure(part, name) for part in parts])
        for name in raw
        for head, parts in (("validation", validated), ("test", found))
    ]
    columns += [(f"{name}\ntest", [_figure(part, name) for part in found]) for name in also]
    second = filled("trial", numbers, columns)
    yield from _about(found)
    yield first
    if comparisons and any_has(found, names[0]):
        yield _PAIRED
    if len(second.columns) > 1:
        yield second
    yield from category_tables([(name, figures) for name, figures, _ in rows])
    if doubt is not None:
        yield f"[yellow]{escape(doubt)}[/]"
    else:
        yield "Choose by validation: picking a trial by its test figures would flatter them."


def ensembles_table(
    ensembles: Mapping[str, Mapping[str, Any]], objectives: Mapping[str, Objective]
) -> Iterable[RenderableType]:
    """Ensembles that were evaluated: what trials are compared by, and what the test split says.

    Args:
        ensembles: Test figures by name.
        objectives: The study's, in its order.
    """
    rows = _ensemble_rows(ensembles)
    if not rows:
        return
    found = [figures for _, figures, _ in rows]
    columns = [
        (name.replace("_", "_\n"), [_measured(known(name)) for _, _, known in rows])
        for name in compared(objectives)
    ]
    prevalence = found[0].get("prevalence")
    for name in dict.fromkeys(comparable(n, prevalence) for n in tested_names(objectives, found)):
        values = [with_interval(figures, name) for figures in found]
        columns.append((f"test {titled(name, prevalence)}\n[95 %]", values))
    yield "Ensembles, each of several trials as one detector:"
    yield filled("trial", [name for name, _, _ in rows], columns)


def _ensemble_rows(ensembles: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    return [
        (name, figures, figures["validation"]["objectives"].get)
        for name, figures in ensembles.items()
    ]


def final_tables(figures: Mapping[str, Any]) -> Iterable[RenderableType]:
    """Test figures of one trial or ensemble: beside those of validation, then by anomaly type."""
    yield from _about([figures])
    prevalence = figures.get("prevalence")
    validation = figures["validation"]
    names = [name for name in figures["metrics"] if any_has([figures, validation], name)]
    columns = [
        ("validation", [_figure(validation, name) for name in names]),
        ("test", [_figure(figures, name) for name in names]),
        ("[95 %]", [_interval(figures, name) for name in names]),
    ]
    shown = [escape(named(name, prevalence)) for name in names]
    members = figures.get("ensemble")
    head = called(ensemble_name(members)) if members else f"trial {figures['trial']}"
    yield filled(head, shown, columns)
    yield from category_tables([(head, figures)])
    if figures["types"]:
        of = " of its category" if figures.get("categories") else ""
        yield f"By anomaly type, each with all normal images{of}:"
        yield _by_type(figures)


def _by_type(figures: Mapping[str, Any]) -> Table:
    prevalence, parts = figures.get("prevalence"), list(figures["types"].values())
    names = [comparable("rwap", prevalence), "rwap", "ap", "image_auroc", "image_ap"]
    names = [name for name in dict.fromkeys([*names, "pixel_f1_at_val"]) if any_has(parts, name)]
    if "ap" in names:
        names.remove("image_ap")  # So that 80 columns are enough.
        if figures.get("categories"):  # Names of types are longer then.
            names = [name for name in names if name != "pixel_f1_at_val"]
    few = figures["bootstrap"].get("too_few", ())
    counts = [
        f"{part['images']}, too few" if kind in few else str(part["images"])
        for kind, part in figures["types"].items()
    ]
    columns = [("images", counts)]
    for name in names:
        values = [_figure(part, name) for part in parts]
        if name == names[0]:
            title = titled(name, prevalence).replace(" at ", "\nat ")
            intervals = [_interval(part, name) for part in parts]
            columns += [(title, values), ("[95 %]", intervals)]
        else:
            columns.append((name.replace("_", " ").replace(" ", "\n", 1), values))
    return filled("type", [escape(kind) for kind in figures["types"]], columns)


def difference_table(comparison: Comparison, tests: Every) -> Iterable[RenderableType]:
    """What one trial reaches on the test split more than another, metric by metric.

    Args:
        comparison: Of the two.
        tests: Test figures of both.
    """
    one, other = comparison.trial, comparison.against
    table = plain_table("test", called(one), called(other), "difference [95 %]")
    for name, difference in comparison.metrics.items():
        if difference is None:
            continue
        shown = escape(named(name, tests[one].get("prevalence")))
        values = (_figure(tests[number], name) for number in (one, other))
        table.add_row(shown, *values, _difference(comparison, name))
    yield table
    yield _PAIRED


_PAIRED = (
    "Differences: both meet the same resamples of test images; where the interval leaves "
    "out 0, they differ."
)


def comparable(name: str, prevalence: float | None) -> str:
    """What stands for a figure where splits are side by side: that at one prevalence, if any."""
    return f"{name}{_CALIBRATED}" if prevalence is not None and name in _PRECISION else name


def titled(name: str, prevalence: float | None) -> str:
    """A figure as the head of a column, with the prevalence that it stands for."""
    if prevalence is None or not name.endswith(_CALIBRATED):
        return name
    return f"{name.removesuffix(_CALIBRATED)} at {_percent(prevalence)}"


def named(name: str, prevalence: float | None) -> str:
    """A figure by its name, with the prevalence that it stands for."""
    shown = prevalence is not None and name.endswith(_CALIBRATED)
    return f"{name} at {_percent(prevalence or 0)}" if shown else name


def final_warnings(tests: Tests | Every) -> Iterable[RenderableType]:
    """What was assumed of test images, and trials that, fitted again, were not reproduced."""
    every = (note for f in tests.values() for note in f.get("data", {}).get("notes", ()))
    for note in dict.fromkeys(every):
        yield f"[yellow]assumed of test images[/]: {escape(note)}"
    for number, figures in tests.items():
        checked = figures["validation"]
        if not checked["reproduced"]:
            yield (
                f"[red]Trial {number} was not reproduced[/]: fitted again, its validation figures "
                f"differ from the search's by up to {checked['largest_difference']:.2g}."
            )


def tested_record(record: TrialRecord, tests: Tests) -> TrialRecord:
    """A record with its test figures, if it has any, among what was measured.

    They are named ``test_rwap``, ends of intervals ``test_rwap_low`` and ``test_rwap_high``, and
    what was fitted on ``test_fit``.
    """
    figures = tests.get(record.number)
    if figures is None:
        return record
    added: dict[str, Any] = {"test_fit": figures["fit"]}
    added |= {f"test_{name}": value for name, value in figures["metrics"].items()}
    for name, ends in figures["intervals"].items():
        if ends is not None:
            added |= {f"test_{name}_low": ends[0], f"test_{name}_high": ends[1]}
    return replace(record, measured={**record.measured, **added})


def tested_names(
    objectives: Mapping[str, Objective], tested: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The objectives that are measured on the test split too.

    Args:
        objectives: The study's.
        tested: Test figures of the trials that are shown.

    Returns:
        rwAP if no objective is, or the AUROC of images where there is no mask to measure it.
    """
    usual = "rwap" if any_has(tested, "rwap") else "image_auroc"
    return [name for name in objectives if name in _TESTED] or [usual]


def any_has(parts: Iterable[Mapping[str, Any]], name: str) -> bool:
    """Whether any of several figures has a metric."""
    return any(part["metrics"].get(name) is not None for part in parts)


def fit_notes(tested: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What detectors were fitted on whose test figures are shown, a line for each way."""
    ways: dict[str, list[Mapping[str, Any]]] = {}
    for figures in tested:
        ways.setdefault(figures.get("fit", "train"), []).append(figures)
    for way, those in ways.items():
        images = those[0].get("fitted_on")
        if way == "all":
            number = "" if images is None else f"{images} "
            text = f"on all {number}normal images but the test split's, as export does"
        else:
            text = "on the train split alone, as in the search"
        numbers = ", ".join(
            ensemble_name(figures.get("ensemble") or [figures.get("trial")]) for figures in those
        )
        yield f"{text} (trial {numbers})" if len(ways) > 1 else text


def _about(tested: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Which images, what was fitted on, and what the intervals are."""
    figures = tested[0]
    data, drawn = figures["data"], figures["bootstrap"]
    counts = " + ".join(f"{number} {escape(kind)}" for kind, number in data["counts"].items())
    yield f"test     {data['images']} images: {counts}; sha256 {data['sha256'][:12]}"
    yield from (f"fitted   {note}" for note in fit_notes(tested))
    unit = drawn["unit"].replace(",", " of the test split,", 1)
    metrics = figures["metrics"]
    if not _anomalous(figures):
        yield (
            f"figures  no anomalous image in the test split, so of its figures only {_ALARMS}: "
            "the share of normal images that raise an alarm"
        )
        return
    if metrics.get("ap") is None:
        yield "figures  of images alone: no anomalous image of the test split has a mask"
    yield f"\\[95 %]   over {unit}: percentile bootstrap, {drawn['resamples']} resamples"
    if few := drawn.get("too_few"):
        what = drawn["unit"].partition(",")[0]
        yield (
            f"too few  {escape(', '.join(few))}: fewer than {bootstrap.FEW} {what}, so their "
            "intervals are still too narrow"
        )
    prevalence = figures.get("prevalence")
    if prevalence is not None and metrics.get("ap") is not None:
        yield (
            f"at {_percent(prevalence)}".ljust(9) + "precision as it were if so many pixels were "
            "anomalous (dataset.prevalence), so that splits can be compared"
        )


def _anomalous(figures: Mapping[str, Any]) -> bool:
    """Whether the test split holds an anomalous image."""
    return bool(set(figures["data"]["counts"]) - {NORMAL})


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _difference(comparison: Comparison, name: str) -> str:
    value, ends = comparison.metrics.get(name), comparison.intervals.get(name)
    if value is None:
        return "-"
    return f"{value:+.3f}" + escape(f" [{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else "")


def _figure(figures: Mapping[str, Any], name: str) -> str:
    value = figures["metrics"].get(name)
    return "-" if value is None else f"{value:.4f}"


def _interval(figures: Mapping[str, Any], name: str) -> str:
    ends = figures["intervals"].get(name)
    return "-" if ends is None else escape(f"[{ends[0]:.3f}, {ends[1]:.3f}]")


def with_interval(figures: Mapping[str, Any] | None, name: str) -> str:
    """A figure and its interval on one line; a dash for what is not known."""
    if figures is None or _figure(figures, name) == "-":
        return "-"
    return f"{_figure(figures, name)} {_interval(figures, name)}"


def _measured(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
