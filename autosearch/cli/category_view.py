"""Test figures of each of several categories that one model is for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import RenderableType
from rich.markup import escape

from autosearch.cli.tables import filled

_SHOWN = {"image_auroc": "image\nAUROC", "ap": "AP", "rwap": "rwAP", "aupro": "AUPRO"}
_MEAN, _ALL = "(mean)", "(all)"
"""In brackets, since categories may be called anything."""


def category_tables(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
) -> Iterable[RenderableType]:
    """A table with a row for each category; nothing where there is one.

    Args:
        rows: What trials are called, and their test figures. With several trials each row begins
            with the trial.
    """
    names: list[str] = []
    parts: list[Mapping[str, Any]] = []
    counts: list[str] = []
    for called, figures in rows:
        each = figures.get("categories") or {}
        if not each:
            continue
        head = f"{called}  " if len(rows) > 1 else ""
        names += [head + escape(name) for name in (*each, _MEAN, _ALL)]
        parts += [*each.values(), _mean(list(each.values())), figures]
        counts += [f"{one.get('normal', '-')} + {one['images']}" for one in each.values()]
        counts += ["-", "-"]
    if not names:
        return
    columns = [("normal +\nanomalous", counts)]
    columns += [(head, [_figure(part, name) for part in parts]) for name, head in _SHOWN.items()]
    yield (
        "By category on the test split, each with its own images alone; (mean) is over the "
        "categories, (all) of all images together:"
    )
    yield filled("trial, category" if len(rows) > 1 else "category", names, columns)


def _mean(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over categories; None where one of them has no figure."""
    found: dict[str, Any] = {}
    for name in _SHOWN:
        values = [part["metrics"].get(name) for part in parts]
        found[name] = None if None in values else fmean(values)
    return {"metrics": found}


def _figure(figures: Mapping[str, Any], name: str) -> str:
    value = figures["metrics"].get(name)
    return "-" if value is None else f"{value:.4f}"
