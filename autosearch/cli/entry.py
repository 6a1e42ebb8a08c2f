"""Where the command begins and ends: what goes wrong with an input is one line and exit code 2."""

from __future__ import annotations

import errno
import io
import logging
import sys
import warnings

from rich.console import Console
from rich.text import Text

from autosearch.cli.app import app
from autosearch.cli.links import page_of
from autosearch.errors import AutosearchError, one_line


def main() -> None:
    """Run the command; an error of the input is one line on standard error and exit code 2.

    The line ends with the page of the documentation that says more, where there is one.

    So is a file that the system will not open, read or write, wherever that happens.
    """
    # Names of files may be any bytes; what cannot be printed is escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # What Pillow finds odd about a file; what it cannot read, it raises.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    page: str | None = None
    try:
        app()
    except AutosearchError as error:
        problem, page = str(error), page_of(error)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        problem = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    else:
        return
    text = Text.assemble(("error: ", "bold red"), one_line(problem))
    if page is not None:
        text.append(f"; see {page}", "dim")
    Console(stderr=True, soft_wrap=True).print(text, highlight=False)
    sys.exit(2)
