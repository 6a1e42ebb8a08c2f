"""Tables of figures for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from autosearch.errors import one_line

_LONGEST = 12


def filled(
    first: str, names: Sequence[str], columns: Iterable[tuple[str, Sequence[str]]]
) -> Table:
    """A table without the columns that no row has anything for."""
    shown = [(head, cells) for head, cells in columns if any(cell != "-" for cell in cells)]
    table = plain_table(first, *(head for head, _ in shown))
    for row, name in enumerate(names):
        table.add_row(name, *(cells[row] for _, cells in shown))
    if first == "trial":  # Names of ensembles are longer than numbers.
        table.columns[0].min_width = min(_LONGEST, max(5, *map(len, names)))
    return table


def plain_table(first: str, *others: str) -> Table:
    """A table without rows: a head for their names, and heads of numbers."""
    table = Table(box=None, pad_edge=False)
    number = first == "trial"
    table.add_column(
        escape(first),
        overflow="fold",
        justify="right" if number else "left",
        min_width=5 if number else 12,
    )
    for head in others:
        table.add_column(escape(head), justify="right", no_wrap=True)
    return table


def number_text(value: object) -> str:
    """A value as tables show it: of a fraction four digits."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 10 or value.is_integer() else f"{value:.4f}"
    return one_line(str(value))
