"""Arguments of ``autosearch spaces``, ``runners`` and ``objectives``: what there is."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

console = Console()


def spaces() -> None:
    """List search spaces that can be run by name."""
    from rich.table import Table

    from autosearch.contracts import registry
    from autosearch.spec import load_spec

    table = Table(box=None)
    for title in ("name", "runner", "parameters", "configurations", "objectives"):
        table.add_column(title, justify="right" if title[0] in "pc" else "left", no_wrap=True)
    table.add_column("file", overflow="fold")
    for name, path in registry.spaces().items():
        spec = load_spec(path)
        space = spec.parsed_space
        size = space.size()
        shown = "many" if size is None else f"{size:,.0f}".replace("inf", "continuous")
        table.add_row(name, spec.study.runner, str(len(space.parameters)), shown,
                      ", ".join(spec.objectives), str(path))  # fmt: skip
    console.print(table)


def runners(
    name: Annotated[str | None, typer.Argument(help="Show the parameters of this runner.")] = None,
) -> None:
    """List runners: the systems that can be searched."""
    from rich.table import Table

    from autosearch.contracts import registry

    table = Table(box=None)
    if name is None:
        table.add_column("name", no_wrap=True)
        table.add_column("what it searches")
        for known in registry.runner_names():
            table.add_row(known, registry.load_runner(known).description)
    else:
        for title in ("parameter", "default"):
            table.add_column(title, no_wrap=True)
        table.add_column("allowed", overflow="fold", ratio=2)
        table.add_column("what it does", ratio=3)
        for parameter, info in registry.load_runner(name).parameters.items():
            table.add_row(parameter, json.dumps(info.default), info.allowed(), info.help)
    console.print(table)


def objectives() -> None:
    """List everything that can be an objective, a measure or a constraint."""
    from rich.table import Table

    from autosearch.contracts import registry

    table = Table(box=None)
    for title in ("name", "better", "unit"):
        table.add_column(title, no_wrap=True)
    table.add_column("what it says")
    for objective in registry.objectives().values():
        better = "lower" if objective.direction == "minimize" else "higher"
        table.add_row(objective.name, better, objective.unit, objective.help)
    console.print(table)
