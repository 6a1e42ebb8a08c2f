"""``autosearch track``: trials for MLflow, Weights & Biases, TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosearch.cli.options import Directory
from autosearch.cli.screen import console, print_unbroken

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Update


def track(
    directory: Directory,
    mlflow: Annotated[
        str | None,
        typer.Option(
            "--mlflow", metavar="URI", help="MLflow: http://host:5000, or sqlite:///mlflow.db."
        ),
    ] = None,
    wandb: Annotated[
        str | None,
        typer.Option("--wandb", metavar="PROJECT", help="Weights & Biases: [entity/]project."),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", metavar="DIR", help="TensorBoard: its --logdir."),
    ] = None,
) -> None:
    """Send trackers the trials that they do not have yet, when the search is over.

    Without options, those that the spec names under `tracking`. Each trial is there once, however
    often this is done.
    """
    from rich.progress import Progress

    from autosearch.api import open_study

    study = open_study(directory)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("sending trials", total=None)

        def show(update: Update) -> None:
            bar.update(task, description=update.text, completed=update.done, total=update.total)

        sent = study.track(mlflow=mlflow, wandb=wandb, tensorboard=tensorboard, progress=show)
    print_unbroken(
        f"{escape(name)}: {f'{number} trials sent' if number else 'has all trials'}"
        for name, number in sent.items()
    )
