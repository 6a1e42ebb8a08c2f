"""``autosearch report`` and ``autosearch dashboard``: what a study shows in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosearch.cli.options import Directories


def report(
    directories: Directories,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The file; by default DIR/report.html, or report.html here for several."
        ),
    ] = None,
    open_in_browser: Annotated[
        bool, typer.Option("--open", help="Show it in the browser.")
    ] = False,
) -> None:
    """Write an HTML page with a study's front, trials and progress that opens without network."""
    import webbrowser

    from autosearch.api import write_report

    written = write_report(directories, out)
    print(f"{written}  ({written.stat().st_size / 1e6:.1f} MB)")
    if open_in_browser:
        webbrowser.open(written.resolve().as_uri())


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

    Only this machine can reach the page, which writes nothing but notes on trials. Ctrl-C ends
    it; searches are not touched.
    """
    from autosearch.api import serve_dashboard

    serve_dashboard(directory, port, open_in_browser)
