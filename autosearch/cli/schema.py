"""``autosearch schema``: the spec for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosearch.cli.screen import console, print_unbroken


def schema(
    out: Annotated[
        Path | None, typer.Option(help="Write it to this file instead of the screen.")
    ] = None,
) -> None:
    """Write the JSON schema of a spec, with which editors complete and check one.

    It knows the runners and objectives that are installed.
    """
    from autosearch import api

    text = api.schema_text()
    if out is None:
        typer.echo(text, nl=False)
        return
    api.write_schema(out)
    print_unbroken([f"{out}: in the first line of a spec, an editor that knows YAML finds it by"])
    console.print(api.modeline(out.resolve()), highlight=False, soft_wrap=True, markup=False)
