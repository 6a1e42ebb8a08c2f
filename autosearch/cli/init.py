"""``autosearch init``: from a folder of images to a spec that can be run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosearch.cli.completion import space_names
from autosearch.cli.screen import console, print_all, print_unbroken
from autosearch.errors import ConfigError

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from collections.abc import Callable

    from autosearch.api import Update
    from autosearch.data import Report

_BUDGET = "10m"


def init(
    folder: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER]", help="Folder of the images, or a file that lists them."
        ),
    ] = None,
    category: Annotated[
        str | None,
        typer.Option("--category", help="One product or texture, if there are several."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The spec to write.", show_default="CATEGORY.yaml"
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="How long the search may take on this machine, such as 10m or 2h.",
            show_default=_BUDGET,
        ),
    ] = None,
    space: Annotated[
        str,
        typer.Option(
            "--space", help="What is searched: `autosearch spaces`.", autocompletion=space_names
        ),
    ] = "autopatch_plus",
    trials: Annotated[
        bool,
        typer.Option("--try/--no-try", help="Try three trials, to learn how long one takes here."),
    ] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, take defaults.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
) -> None:
    """Look at your images, and write a spec that fits them and the time you have.

    It asks what it does not know; in a pipe, or with --yes, it does not. Images are looked at as
    `autosearch data check` does, and some trials are tried. Every choice stands in the spec with
    its reason.
    """
    from autosearch.api import propose
    from autosearch.cli.console import check_report, problem_lines
    from autosearch.files import write_atomic

    asking = not yes and sys.stdin.isatty()
    if folder is None:
        if not asking:
            raise ConfigError("FOLDER", None, "the folder of your images")
        folder = typer.prompt("Folder of the images, or a file that lists them").strip()
    category = category or _category(folder, asking)
    if budget is None:
        budget = _BUDGET
        if asking:
            budget = typer.prompt("How long may the search take on this machine?", default=budget)
    path = out or Path(f"{Path(category).name if category[:1] != '[' else 'several'}.yaml")
    if out is None and asking:
        path = Path(typer.prompt("The spec to write", default=str(path)))
    _check_free(path, force)

    def checked(report: Report) -> None:
        print_all(check_report(report))
        print_unbroken(problem_lines(report))

    with _told() as show:
        found = propose(
            folder,
            category,
            space=space,
            budget=budget,
            measured=trials,
            checked=checked,
            progress=show,
        )
    _check_free(path, force)
    write_atomic(path, found.text)
    name = found.spec.study.name
    again = " --name NAME" if Path("results", name).exists() else ""
    print_unbroken([f"[bold]{escape(str(path))}[/]: {found.time}", "Next:"])
    print_unbroken(
        [
            f"  autosearch run {escape(shlex.quote(str(path)))}{again}",
            f"  autosearch report results/{name}   # the front, trials and maps as a page",
        ]
    )


def _category(folder: str, asking: bool) -> str:
    """The only category, or the one that is asked for."""
    from autosearch.data import only_category

    try:
        return only_category(folder)
    except ConfigError as error:
        if not asking or error.key != "dataset.category":
            raise
        console.print(f"Categories: {error.allowed.removeprefix('one of ')}", soft_wrap=True)
        return str(typer.prompt("Which one?")).strip()


def _check_free(path: Path, force: bool) -> None:
    if path.is_dir() or (path.exists() and not force):
        raise ConfigError("--out", str(path), "a file that is not there yet, or --force")


@contextmanager
def _told() -> Iterator[Callable[[Update], None]]:
    """A line for each step; while it takes its time, a sign that moves. Terminals only."""
    from rich.status import Status

    status = Status("", console=console)

    def show(update: Update) -> None:
        if update.stage in ("looking", "loading", "trying"):
            status.update(escape(update.text) + " …")
        if console.is_terminal:
            status.start()
        elif update.stage == "looking":
            print_unbroken([escape(update.text)])

    try:
        yield show
    finally:
        status.stop()
