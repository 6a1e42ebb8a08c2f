"""``autosearch gallery``: all images of a split with what a trial answers."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autosearch.cli.options import (
    CategoryOption,
    DataOption,
    Directory,
    EnsembleOption,
    TrialOption,
    ensemble_of,
)
from autosearch.cli.screen import console, print_unbroken, reading_bar
from autosearch.cli.threshold_options import (
    CostFnOption,
    CostFpOption,
    FactorOption,
    MaxFprOption,
    MinSensitivityOption,
    PercentileOption,
    PrevalenceOption,
    RuleOption,
    ThresholdRule,
    criterion_of,
)

if TYPE_CHECKING:  # Imported where it is used, so that --help answers at once.
    from autosearch.api import Update


class SplitOption(StrEnum):
    """Which images are shown."""

    VALIDATION = "validation"
    TEST = "test"


def gallery(
    directory: Directory,
    trial: TrialOption = None,
    ensemble: EnsembleOption = None,
    split: Annotated[
        SplitOption, typer.Option("--split", help="Which images.")
    ] = SplitOption.VALIDATION,
    threshold: RuleOption = ThresholdRule.F1,
    max_fpr: MaxFprOption = None,
    min_sensitivity: MinSensitivityOption = None,
    prevalence: PrevalenceOption = None,
    cost_fn: CostFnOption = None,
    cost_fp: CostFpOption = None,
    percentile: PercentileOption = None,
    factor: FactorOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; by default in DIR/galleries.")
    ] = None,
    open_in_browser: Annotated[
        bool, typer.Option("--open", help="Show it in the browser.")
    ] = False,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Write an HTML page with all images of a split, the worst misses and false alarms first.

    Each has its ground truth and the mask at a threshold that can be moved in the page, which
    counts anew what is called rightly. The trial is fitted again as `evaluate` does; thresholds
    begin where the rule chose them on validation.
    """
    import webbrowser

    from autosearch.api import open_study

    criterion = criterion_of(
        threshold, max_fpr, min_sensitivity, prevalence, cost_fn, cost_fp, percentile, factor
    )
    study = open_study(directory)
    with reading_bar() as bar:

        def show(update: Update) -> None:
            bar(update)
            if update.stage in ("checking", "drawing"):
                console.print(f"{escape(update.text)} …", highlight=False)

        written = study.gallery(
            trial,
            split=split.value,
            threshold=criterion,
            out=out,
            data=data,
            category=category,
            progress=show,
            ensemble=ensemble_of(ensemble),
        )
    size = written.stat().st_size / 1e6
    print_unbroken([f"{escape(str(written))}  ({size:.1f} MB)"])
    if open_in_browser:
        webbrowser.open(written.resolve().as_uri())
