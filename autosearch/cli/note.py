"""``autosearch note``: what a person thinks of a trial, kept in the study's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosearch.cli.completion import trial_numbers
from autosearch.cli.options import Directory
from autosearch.cli.screen import console
from autosearch.errors import one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from collections.abc import Iterable

    from autosearch.storage import TrialNote


def note(
    directory: Directory,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="The note, in the place of the one before; an empty text takes it away.",
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial", min=0, help="The trial that it is about.", autocompletion=trial_numbers
        ),
    ] = None,
) -> None:
    """Attach a note to a trial, or list the notes of a study.

    Notes lie in notes.json of the study's folder. `show --trial`, report and
    dashboard show them; no search reads them.
    """
    from autosearch.api import open_study
    from autosearch.errors import ConfigError

    study = open_study(directory)
    if text is not None:
        if trial is None:
            raise ConfigError("--trial", None, "the number of the trial that the note is about")
        kept = study.note(trial, text)
        console.print(f"trial {trial} " + ("has a note" if kept else "has no note any more"))
        if study.in_database:
            console.print(
                f"the trials are in a database, the note is in {escape(str(study.path))} alone: "
                "other heads do not see it",
                highlight=False,
                soft_wrap=True,
            )
        return
    if trial is not None:
        study.trial(trial)
    listed = {n: one for n, one in study.notes.items() if trial in (None, n)}
    for number, one in listed.items():
        console.print(f"trial {number}", highlight=False)
        for line in note_lines(one):
            console.print(f"  {line}", highlight=False)
    if not listed:
        about = "this study" if trial is None else f"trial {trial}"
        console.print(f"no note on {about}", highlight=False)


def note_lines(kept: TrialNote | None) -> Iterable[str]:
    """A note, line by line, and when it was written; nothing where there is none."""
    if kept is not None:
        yield from (escape(one_line(line)) for line in kept.text.splitlines())
        yield f"[dim]{escape(one_line(kept.written))}[/]"
