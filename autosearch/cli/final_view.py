"""Test figures for people and programs: tables, and columns beside those of the search.

They are as `autosearch.study.final` describes them; nothing here loads what it takes to make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from autosearch.contracts import Objective, TrialRecord

Tests = Mapping[int, Mapping[str, Any]]
"""Test figures by trial number."""

_TESTED = ("rwap", "ap", "pixel_auroc", "aupro", "image_auroc", "iou_half")


def evaluated_table(
    records: Sequence[TrialRecord], objectives: Mapping[str, Objective], tests: Tests
) -> Iterable[RenderableType]:
    """Trials with their objectives, validation and test side by side.

    Args:
        records: Trials that have test figures.
        objectives: The study's, in its order.
        tests: Test figures by trial number.
    """
    names = tested_names(objectives)
    others = [name for name in objectives if name not in names]
    also = [name for name in ("ap", "aupro", "image_auroc") if name not in names]
    heads = ["trial", *others]
    heads += [f"{name}\n{part}" for name in names for part in ("validation", "test", "[95 %]")]
    heads += [f"{name}\ntest" for name in also]
    table = _table(*heads)
    for record in records:
        found = tests[record.number]
        row = [f"{record.values[name]:.4g}" for name in others]
        for name in names:
            row += [_figure(found["validation"], name), _figure(found, name)]
            row.append(_interval(found, name))
        table.add_row(str(record.number), *row, *(_figure(found, name) for name in also))
    yield from _about(tests[records[0].number])
    yield table
    yield "Choose by validation: picking a trial by its test figures would flatter them."


def final_tables(figures: Mapping[str, Any]) -> Iterable[RenderableType]:
    """Test figures of one trial: beside those of validation, then by anomaly type."""
    yield from _about(figures)
    table = _table(f"trial {figures['trial']}", "validation", "test", "[95 %]")
    for name, value in figures["metrics"].items():
        if value is None and name == "iou_half":
            continue
        validation = _figure(figures["validation"], name)
        table.add_row(escape(name), validation, _figure(figures, name), _interval(figures, name))
    yield table
    rest = ("ap", "aupro", "image_auroc", "pixel_f1_at_val")
    heads = [name.replace("_", " ").replace(" ", "\n", 1) for name in rest]
    by_type = _table("type", "images", "rwap", "[95 %]", *heads)
    for kind, part in figures["types"].items():
        row = (_figure(part, "rwap"), _interval(part, "rwap"))
        by_type.add_row(
            escape(kind), str(part["images"]), *row, *(_figure(part, name) for name in rest)
        )
    yield "By anomaly type, each with all normal images:"
    yield by_type


def final_warnings(tests: Tests) -> Iterable[RenderableType]:
    """Trials whose detector, fitted again, did not reach what the search recorded."""
    for number, figures in tests.items():
        checked = figures["validation"]
        if not checked["reproduced"]:
            yield (
                f"[red]Trial {number} was not reproduced[/]: fitted again, its validation figures "
                f"differ from the search's by up to {checked['largest_difference']:.2g}."
            )


def tested_record(record: TrialRecord, tests: Tests) -> TrialRecord:
    """A record with its test figures, if it has any, among what was measured.

    They are named ``test_rwap``, ends of intervals ``test_rwap_low`` and ``test_rwap_high``.
    """
    figures = tests.get(record.number)
    if figures is None:
        return record
    added = {f"test_{name}": value for name, value in figures["metrics"].items()}
    for name, ends in figures["intervals"].items():
        if ends is not None:
            added |= {f"test_{name}_low": ends[0], f"test_{name}_high": ends[1]}
    return replace(record, measured={**record.measured, **added})


def tested_names(objectives: Mapping[str, Objective]) -> list[str]:
    """The objectives that are measured on the test split too; rwAP if none is."""
    return [name for name in objectives if name in _TESTED] or ["rwap"]


def _table(first: str, *others: str) -> Table:
    table = Table(box=None)
    table.add_column(
        escape(first), overflow="fold", justify="right" if first == "trial" else "left"
    )
    for head in others:
        table.add_column(escape(head), justify="right", no_wrap=True)
    return table


def _about(figures: Mapping[str, Any]) -> Iterable[str]:
    """Which images, and what the intervals are."""
    data, drawn = figures["data"], figures["bootstrap"]
    counts = " + ".join(f"{number} {escape(kind)}" for kind, number in data["counts"].items())
    yield f"test     {data['images']} images: {counts}; sha256 {data['sha256'][:12]}"
    yield (
        f"\\[95 %]   percentile bootstrap, {drawn['resamples']} resamples of {drawn['unit']}; "
        "too narrow where a type has few"
    )


def _figure(figures: Mapping[str, Any], name: str) -> str:
    value = figures["metrics"].get(name)
    return "-" if value is None else f"{value:.4f}"


def _interval(figures: Mapping[str, Any], name: str) -> str:
    ends = figures["intervals"].get(name)
    return "-" if ends is None else escape(f"[{ends[0]:.3f}, {ends[1]:.3f}]")


def with_interval(figures: Mapping[str, Any] | None, name: str) -> str:
    """A figure and its interval on one line; a dash for what is not known."""
    return "-" if figures is None else f"{_figure(figures, name)} {_interval(figures, name)}"
