"""Pages of several studies: as a file, and live."""

from __future__ import annotations

from pathlib import Path

from autosearch.api.figures import Studies, opened
from autosearch.errors import ConfigError


def write_report(studies: Studies, out: str | Path | None = None) -> Path:
    """Write one HTML page that shows studies, compares several, and opens without network.

    Args:
        studies: Their folders.
        out: The file; by default ``report.html`` in the folder of the study, or here for several.

    Returns:
        The file.

    Raises:
        ConfigError: There is no study, or one is there twice.
        StudyError: A study cannot be read, or the file cannot be written.
    """
    from autosearch.report import write_report as write

    folders = opened(studies)
    usual = folders[0].path / "report.html" if len(folders) == 1 else Path("report.html")
    target = Path(out or usual)
    if target.is_dir():
        raise ConfigError("--out", str(target), "a file, such as report.html")
    return write(folders, target)


def serve_dashboard(
    directory: str | Path = "results", port: int | None = None, open_in_browser: bool = False
) -> None:
    """Show studies live in a browser until Ctrl-C; only this machine can reach the page.

    Args:
        directory: Folder of studies, or of one study.
        port: On 127.0.0.1; by default 8050, or the next that is free.
        open_in_browser: Open the page.

    Raises:
        ConfigError: There is no such folder, or the port is taken.
    """
    from autosearch.report import serve

    serve(Path(directory), port, open_in_browser)
