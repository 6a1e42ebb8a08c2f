"""``autosearch data check``, ``look`` and ``convert``: what a dataset holds, and laid out anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autosearch.cli.options import Overrides
from autosearch.cli.screen import INTERRUPTED, console, print_all, print_unbroken

if TYPE_CHECKING:
    from autosearch.api import Update

_SPACE = "autopatch"
"""Whose trials are foretold to who has not chosen a space yet."""

Root = Annotated[
    str, typer.Argument(metavar="ROOT", help="Folder of the dataset, or a file that lists it.")
]
Category = Annotated[
    str | None,
    typer.Argument(
        metavar="[CATEGORY]", help="One product or texture; not needed where there is one."
    ),
]


class Target(StrEnum):
    """What a dataset can be written as."""

    MVTEC = "mvtec"
    CSV = "csv"


def check(
    root: Root,
    category: Category = None,
    overrides: Overrides = None,
    every: Annotated[
        bool, typer.Option("--all", help="Name every file, instead of the first of each kind.")
    ] = False,
) -> None:
    """Count images, masks and regions, and name every problem found; exit code 1 on errors.

    With --set, how a study would split it: --set dataset.validation.real_per_type=2.
    """
    from autosearch.api import check_data, foretell_trial
    from autosearch.cli.console import check_report, problem_lines
    from autosearch.cli.forecast import forecast_text

    report = check_data(root, category, overrides or ())
    print_all(check_report(report))
    if report.usable and (found := foretell_trial(root, category, overrides or (), _SPACE)):
        print_unbroken([f"memory: {forecast_text(found.to_plain(), _SPACE)}"])
    print_unbroken(problem_lines(report, every))
    if not report.usable:
        raise typer.Exit(1)


def look(
    root: Root,
    category: Category = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="JPEG file to write.")] = Path(
        "look.jpg"
    ),
    overrides: Overrides = None,
) -> None:
    """Draw some images beside what a detector will see of them.

    With --set, what a study would make of them: --set dataset.preprocess=centre.
    """
    from autosearch.api import look_at_data

    print_unbroken([str(look_at_data(root, category, out, overrides or ()))])


def convert(
    root: Root,
    category: Category = None,
    to: Annotated[
        Target, typer.Option("--to", help="Folders like MVTec AD's, or images with a CSV file.")
    ] = Target.MVTEC,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write, new or empty.")
    ] = ...,  # type: ignore[assignment]
    link: Annotated[
        bool, typer.Option("--link", help="Make hard links of images instead of copies.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Write a dataset of any layout anew: images keep their bytes, masks become 0 and 255."""
    from autosearch.api import convert_data

    with _bar() as show:
        try:
            done = convert_data(
                root, category, to=to.value, out=out, link=link, overrides=overrides or (),
                progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            console.print("interrupted: nothing was written")
            raise typer.Exit(INTERRUPTED) from None
    kept = "linked" if link else "copied"
    print_unbroken(
        [f"{done.images} images {kept} and {done.masks} masks written for {done.category}"],
        (f"lost: {line}" for line in done.lost),
        [f"autosearch data check {done.root}"],
    )


@contextmanager
def _bar() -> Iterator[Callable[[Update], None]]:
    """A bar for images that are written, with the time left. Terminals only."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("left"),
    )  # fmt: skip
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("writing images", total=None)
        yield lambda update: bar.update(task, completed=update.done, total=update.total)
