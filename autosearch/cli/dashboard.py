"""Arguments of ``autosearch dashboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def dashboard(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of studies, or of one study.")
    ] = Path("results"),
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1024,
            max=65535,
            show_default="8050, or the next that is free",
            help="Port on 127.0.0.1.",
        ),
    ] = None,
    open_in_browser: Annotated[
        bool, typer.Option("--open", help="Show the page in the browser.")
    ] = False,
) -> None:
    """Watch studies while they run: the views of the report, live, in a browser.

    Only this machine can reach the page, and the page only reads. Ctrl-C ends it; searches are
    not touched.
    """
    from autosearch.report import serve

    serve(directory, port, open_in_browser)
