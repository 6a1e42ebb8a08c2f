"""The terminal: one console for all commands, and what several of them show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from autosearch.api import Update

console = Console()

INTERRUPTED = 130
"""Exit code where Ctrl-C came before all was done."""


def print_all(*groups: Iterable[Any]) -> None:
    """Print lines and tables one after the other."""
    for group in groups:
        for line in group:
            console.print(line, highlight=False)


def print_unbroken(*groups: Iterable[Any]) -> None:
    """Print lines that only the terminal itself wraps, so that what they hold can be copied."""
    for group in groups:
        for line in group:
            console.print(line, highlight=False, soft_wrap=True)


@contextmanager
def reading_bar() -> Iterator[Callable[[Update], None]]:
    """A bar for images that are read; other updates pass by. Terminals only."""
    from rich.progress import Progress

    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=None)

        def show(update: Update) -> None:
            if update.stage.startswith("reading"):
                bar.update(
                    task,
                    description=update.stage,
                    completed=update.done,
                    total=update.total,
                )

        yield show
