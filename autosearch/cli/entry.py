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
from autosearch.errors import AutosearchError, one_line


def main() -> None:
    """Run the command; an error of the input is one line on standard error and exit code 2.

    So is a file that the system will not open, read or write, wherever that happens.
    """
    # Names of files may be any bytes; what cannot be printed is escaped.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # What Pillow finds odd about a file; what it cannot read, it raises.
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    try:
        app()
    except AutosearchError as error:
        problem = str(error)
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        problem = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    else:
        return
    text = Text.assemble(("error: ", "bold red"), one_line(problem))
    Console(stderr=True, soft_wrap=True).print(text, highlight=False)
    sys.exit(2)
