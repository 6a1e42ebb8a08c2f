"""``autosearch factory invariance`` and ``factory background``: a trial looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from autosearch.cli.options import (
    CategoryOption,
    DataOption,
    Directory,
    EnsembleOption,
    TrialOption,
    ensemble_of,
)
from autosearch.cli.screen import console, print_all, print_unbroken
from autosearch.cli.tables import plain_table

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Update

_FIGURES = {
    "shift": "score",
    "shift_in_spreads": "in spreads",
    "false_alarms": "alarms",
    "found": "found",
    "rwap": "rwAP",
    "ap": "AP",
    "image_auroc": "AUROC",
}


def invariance(
    directory: Directory,
    trial: TrialOption = None,
    images: Annotated[
        int,
        typer.Option("--images", min=1, help="Most normal, and most anomalous, images changed."),
    ] = 100,
    data: DataOption = None,
    category: CategoryOption = None,
    ensemble: EnsembleOption = None,
) -> None:
    """Change the images of the test split, and see what becomes of a trial's scores.

    They are turned, mirrored, moved, lit otherwise, blurred, encoded and made noisy, as the table
    says. The detector is fitted as `evaluate` does; the threshold stays the one from validation.
    """
    from autosearch.api import open_study
    from autosearch.study import finding_name

    study = open_study(directory)
    with _bar() as show:
        report = study.invariance(
            trial,
            images=images,
            data=data,
            category=category,
            progress=show,
            ensemble=ensemble_of(ensemble),
        )
    print_all([invariance_table(report)])
    print_unbroken(_notes(report))
    place = study.path / "factory" / "invariance" / f"{finding_name(report)}.json"
    print_unbroken([f"kept in {escape(str(place))}"])


def background(
    directory: Directory,
    trial: TrialOption = None,
    data: DataOption = None,
    category: CategoryOption = None,
    ensemble: EnsembleOption = None,
) -> None:
    """See where a trial's scores of normal images lie: on the object, or around it.

    It is fitted as the search did and asked about normal validation images. A picture shows the
    mean image beside the mean map.
    """
    from autosearch.api import open_study

    study = open_study(directory)
    with _bar() as show:
        report = study.background(
            trial,
            data=data,
            category=category,
            progress=show,
            ensemble=ensemble_of(ensemble),
        )
    print_unbroken(background_lines(report))
    place = study.path / "factory" / "background" / report["picture"]
    print_unbroken([f"picture of the mean image and the mean map: {escape(str(place))}"])


def invariance_table(report: Mapping[str, Any]) -> Table:
    """An invariance report: one row a change, the unchanged images first."""
    table = plain_table("change", *_FIGURES.values())
    table.title, table.title_justify = f"{_titled(report)} under changes", "left"
    for row in ({"name": "none", **report["unchanged"]}, *report["changes"]):
        table.add_row(escape(row["name"]), *(_cell(name, row[name]) for name in _FIGURES))
    table.caption_justify = "left"
    table.caption = (
        "score: mean change over normal images, beside it in standard deviations of their scores; "
        "alarms and found: shares of normal and anomalous images at the threshold; AUROC of images"
    )
    return table


def _titled(report: Mapping[str, Any]) -> str:
    if report["trial"] is not None:
        return f"Trial {report['trial']}"
    return f"Trials {', '.join(map(str, report['ensemble']))} together"


def background_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """What a background report says, in words."""
    shown, count = report["foreground"], report["images"]
    if not shown:
        yield (
            f"No object stands out from its surroundings in {count} normal validation images, so "
            "nothing is outside of one; the picture shows where scores are high."
        )
        return
    yield f"an object stands out in {shown} of {count} normal validation images; outside of it lie"
    yield f"  {report['area_outside']:.1%} of the pixels"
    if report["mass_outside"] is None:
        yield "  (all scores are alike, so they have no mass)"
        return
    mass, times = report["mass_outside"], report["times_area"]
    yield f"  {mass:.1%} of the score mass, {times:.2f} times that"
    yield f"  the highest score of {report['highest_outside']:.0%} of these images"
    if times > 1 or report["highest_outside"] > 0.5:
        yield (
            "[yellow]Scores look at the surroundings.[/] Compare a study with "
            "dataset.preprocess=mask, crop or centre, or a region of interest."
        )


def _notes(report: Mapping[str, Any]) -> Iterator[str]:
    counts, threshold = report["images"], report["threshold"]
    changed = counts["normal"] + counts["anomalous"]
    drawn = "" if changed == counts["of"] else f" of {counts['of']}, drawn by the study's seed"
    yield (
        f"{counts['normal']} normal and {counts['anomalous']} anomalous images of the test split"
        f"{drawn}; fitted on {report['fitted_on']}; threshold {threshold['value']:.6g} "
        f"({threshold['rule']}) from validation"
    )
    if report["left_out"]:
        height, width = report["size"]
        yield (
            f"left out, since the input of {height} x {width} px is not square: "
            f"{', '.join(report['left_out'])}"
        )
    if report["preprocess"] != "none":
        yield (
            f"changed after dataset.preprocess={report['preprocess']}, which may undo part of "
            "such a change of the photograph"
        )


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "shift":
        return f"{value:+.3g}" if value else "0"
    if name == "shift_in_spreads":
        return f"{value:+.2f}" if value else "0"
    return f"{value:.3f}"


@contextmanager
def _bar() -> Iterator[Callable[[Update], None]]:
    """A bar for images that are read and for changes; fits are lines of their own."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading images", total=None)

        def show(update: Update) -> None:
            known = update.total if update.total and update.total > 1 else None
            text = update.text or update.stage
            bar.update(task, description=escape(text), completed=update.done, total=known)
            if update.stage == "checking" and known is None:
                bar.console.print(f"{escape(text)} …", highlight=False, soft_wrap=True)

        yield show
