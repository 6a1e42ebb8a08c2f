"""``autosearch spaces``, ``runners`` and ``objectives``: what there is."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from autosearch.cli.screen import console, print_unbroken
from autosearch.errors import ConfigError, did_you_mean

_WIDE = 120
"""Columns of a terminal from which on files are shown beside names."""
_LONG = 20
"""Digits and commas from which on a number is written as a power of ten."""


def spaces() -> None:
    """List search spaces that can be run by name."""
    from rich.table import Table

    from autosearch import api
    from autosearch.spec import load_spec

    table = Table(box=None)
    known = api.spaces()
    table.add_column("name", no_wrap=True)
    table.add_column("runner", overflow="fold", min_width=11)
    for title in ("params", "configurations"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("objectives", overflow="fold")
    wide = console.width >= _WIDE
    if wide:
        table.add_column("file", overflow="fold")
    for name, path in known.items():
        spec = load_spec(path)
        space = spec.parsed_space
        size = space.size()
        shown = "many" if size is None else f"{size:,.0f}".replace("inf", "continuous")
        shown = shown if len(shown) < _LONG else f"{size:.1e}"
        cells = [
            name,
            spec.study.runner,
            str(len(space.parameters)),
            shown,
            ", ".join(spec.objectives),
        ]
        table.add_row(*cells, *([str(path)] if wide else []))
    console.print(table)
    if not wide:
        folders = dict.fromkeys(str(path.parent) for path in known.values())
        print_unbroken(f"files in {folder}" for folder in folders)


def runners(
    name: Annotated[str | None, typer.Argument(help="Show the parameters of this runner.")] = None,
) -> None:
    """List runners: the systems that can be searched."""
    from rich.table import Table

    from autosearch import api
    from autosearch.contracts import understood

    table = Table(box=None)
    if name is None:
        table.add_column("name", no_wrap=True)
        table.add_column("what it searches")
        for known, runner in api.runners().items():
            table.add_row(known, runner.description)
    else:
        for title in ("parameter", "default"):
            table.add_column(title, no_wrap=True)
        table.add_column("allowed", overflow="fold", ratio=2)
        table.add_column("what it does", ratio=3)
        there = api.runners()
        if name not in there:
            raise ConfigError("NAME", name, f"a runner; {did_you_mean(name, there)}")
        for parameter, info in understood(there[name]).items():
            table.add_row(parameter, json.dumps(info.default), info.allowed(), info.help)
    console.print(table)


def objectives() -> None:
    """List everything that can be an objective, a measure or a constraint."""
    from rich.table import Table

    from autosearch import api

    table = Table(box=None)
    for title in ("name", "better", "unit"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it says")
    for objective in api.objectives().values():
        better = "lower" if objective.direction == "minimize" else "higher"
        table.add_row(objective.name, better, objective.unit, objective.help)
    console.print(table)
