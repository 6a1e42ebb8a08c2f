"""Arguments of ``autosearch report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosearch.errors import ConfigError


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR…", help="Folders of studies; several are compared."),
    ],
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

    from autosearch.report import write_report
    from autosearch.storage import StudyFolder

    if out is not None and out.is_dir():
        raise ConfigError("--out", str(out), "a file, such as report.html")
    folders = [StudyFolder.open(directory) for directory in directories]
    usual = directories[0] / "report.html" if len(directories) == 1 else Path("report.html")
    written = write_report(folders, out or usual)
    print(f"{written}  ({written.stat().st_size / 1e6:.1f} MB)")
    if open_in_browser:
        webbrowser.open(written.resolve().as_uri())
