"""``autosearch doctor``: what there is on this machine, and what would help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from autosearch.cli.screen import console, print_unbroken
from autosearch.errors import one_line

_COLOURS = {"ok": "green", "slow": "yellow", "absent": "dim", "broken": "bold red"}


def doctor(
    results: Annotated[
        Path, typer.Option("--results", help="Folder that holds the studies.")
    ] = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="One object for each thing.")] = False,
) -> None:
    """Say what is there on this machine, and what is slow or missing, with the remedy.

    Exit code 1 where something is broken that every search needs. What is absent is needed by
    some commands alone.
    """
    from autosearch.api import examine

    found = examine(results)
    broken = any(one.state == "broken" for one in found)
    if as_json:
        print(json.dumps([one.to_plain() for one in found], indent=2))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for one in found:
            state = f"[{_COLOURS[one.state]}]{one.state}[/]"
            table.add_row(one.name, state, escape(one_line(one.found)))
        console.print(table, highlight=False)
        remedies = [one for one in found if one.remedy]
        if remedies:
            console.print()
        for one in remedies:
            state = f"[{_COLOURS[one.state]}]{one.state}[/]"
            print_unbroken([f"{state} {one.name}: [bold]{escape(one.remedy)}[/]"])
        if not broken:
            console.print("All that a search needs is there.", highlight=False)
    if broken:
        raise typer.Exit(1)
