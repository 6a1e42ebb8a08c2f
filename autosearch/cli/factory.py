"""``autosearch factory``: will a detector hold in production, and how sure are we of it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from autosearch.cli.factory_checks import background, invariance
from autosearch.cli.options import (
    AddressOption,
    CategoryOption,
    DataOption,
    EnsembleOption,
    ExecutorName,
    ExecutorOption,
    Overrides,
    TrialOption,
    ensemble_of,
)
from autosearch.cli.screen import INTERRUPTED, console, print_all, print_unbroken
from autosearch.cli.threshold_options import (
    CostFnOption,
    CostFpOption,
    FactorOption,
    MaxFprOption,
    MinSensitivityOption,
    PercentileOption,
    RuleOption,
    ThresholdRule,
    criterion_of,
)
from autosearch.errors import ConfigError

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.api import Update
    from autosearch.study import Estimate, Terms

factory_app = typer.Typer(
    help="From the lab to the factory: what a detector will reach there, and how sure that is.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of a study, or with --spec any other.")
]
NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Of the estimate.", show_default="trial-N, or the only one"),
]
PrevalenceOption = Annotated[
    float, typer.Option("--prevalence", help="Share of anomalous parts on the line.")
]
PartsOption = Annotated[
    float, typer.Option("--parts-per-shift", help="Parts that a shift inspects.")
]


def estimate(
    directory: Folder,
    trial: TrialOption = None,
    ensemble: EnsembleOption = None,
    spec: Annotated[
        str | None,
        typer.Option(
            "--spec", metavar="FILE", help="One configuration that no search found, as YAML."
        ),
    ] = None,
    overrides: Overrides = None,
    repeats: Annotated[
        int, typer.Option("--repeats", min=2, max=999, help="Splits, each trained from scratch.")
    ] = 10,
    merge_test_normals: Annotated[
        bool,
        typer.Option(
            "--merge-test-normals/--keep-test-normals",
            help="Draw normal images from all, or measure on those stated to be test ones.",
        ),
    ] = True,
    search_anomalies: Annotated[
        bool,
        typer.Option("--search-anomalies", help="Also anomalies that the search was driven by."),
    ] = False,
    threshold: RuleOption = ThresholdRule.YOUDEN,
    max_fpr: MaxFprOption = None,
    min_sensitivity: MinSensitivityOption = None,
    cost_fn: CostFnOption = None,
    cost_fp: CostFpOption = None,
    percentile: PercentileOption = None,
    factor: FactorOption = None,
    prevalence: PrevalenceOption = 0.01,
    parts_per_shift: PartsOption = 1000.0,
    name: NameOption = None,
    executor: ExecutorOption = ExecutorName.AUTO,
    address: AddressOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Begin anew where another estimate is in the way.")
    ] = False,
    data: DataOption = None,
    category: CategoryOption = None,
) -> None:
    """Split all images anew and again, train from scratch, choose a threshold, measure elsewhere.

    Each repeat draws a training set, a threshold set and an inference set of whole groups; the
    threshold comes from the second, all figures from the third. Ctrl-C keeps finished repeats, and
    the same command goes on; another rule or prevalence trains nothing anew.
    """
    from autosearch.api import estimate_spec, open_study
    from autosearch.study import EstimateOptions

    terms = _terms(
        threshold,
        max_fpr,
        min_sensitivity,
        cost_fn,
        cost_fp,
        prevalence,
        parts_per_shift,
        (percentile, factor),
    )
    options = EstimateOptions(repeats, merge_test_normals, search_anomalies, force)
    if spec is None and overrides:
        raise ConfigError("--set", overrides[0], "nothing without --spec")
    with _bar() as show:
        try:
            if spec is not None:
                if trial is not None or ensemble is not None:
                    raise ConfigError("--spec", spec, "neither --trial nor --ensemble beside it")
                found = estimate_spec(
                    spec, directory, overrides or (), options=options, terms=terms, name=name,
                    executor=executor.value, address=address, progress=show,
                )  # fmt: skip
            else:
                found = open_study(directory).factory_estimate(
                    trial, ensemble=ensemble_of(ensemble), options=options, terms=terms, name=name,
                    executor=executor.value, address=address, data=data, category=category,
                    progress=show,
                )  # fmt: skip
        except KeyboardInterrupt:
            console.print("Stopped; finished repeats are kept, and the same command goes on.")
            raise typer.Exit(INTERRUPTED) from None
    print_all([estimate_table(found)])
    print_unbroken(_notes(found, merge_test_normals))
    page = f"autosearch factory report {escape(str(directory))}"
    print_unbroken([f"page: {page}" + (f" --name {escape(name)}" if name else "")])


def report(
    directory: Folder,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; by default DIR/factory.html.")
    ] = None,
    name: NameOption = None,
    threshold: RuleOption = ThresholdRule.YOUDEN,
    max_fpr: MaxFprOption = None,
    min_sensitivity: MinSensitivityOption = None,
    cost_fn: Annotated[
        float, typer.Option("--cost-fn", help="What one missed costs, in the curve of costs too.")
    ] = 10.0,
    cost_fp: Annotated[
        float, typer.Option("--cost-fp", help="What one false alarm costs, likewise.")
    ] = 1.0,
    percentile: PercentileOption = None,
    factor: FactorOption = None,
    prevalence: PrevalenceOption = 0.01,
    parts_per_shift: PartsOption = 1000.0,
) -> None:
    """Write an HTML page of an estimate that opens without network."""
    from autosearch.api import write_factory_report

    by_cost = threshold == ThresholdRule.COST
    terms = _terms(
        threshold,
        max_fpr,
        min_sensitivity,
        cost_fn if by_cost else None,
        cost_fp if by_cost else None,
        prevalence,
        parts_per_shift,
        (percentile, factor),
    )
    written = write_factory_report(directory, out, name, terms, (cost_fn, cost_fp))
    print(f"{written}  ({written.stat().st_size / 1e6:.1f} MB)")


factory_app.command()(estimate)
factory_app.command()(report)
factory_app.command()(invariance)
factory_app.command()(background)


def estimate_table(found: Estimate) -> Table:
    """Figures with their intervals, beside what an in-sample threshold promises."""
    from autosearch.study import DECIDED, FIGURES

    table = Table(
        title=f"Estimate of {len(found.repeats)} repeats", title_justify="left", box=None
    )
    for head in ("figure", "mean", "95 % interval", "in-sample", "too good by"):
        table.add_column(head, justify="left" if head == "figure" else "right")
    for name, title in FIGURES.items():
        interval = found.over[name]
        if interval is None:
            continue
        naive = ["", ""]
        if name in DECIDED:
            lower = name in ("false_alarms", "missed")
            gap = -found.gap(name) if lower else found.gap(name)
            naive = [_short(found.in_sample[name]), _short(gap)]
        ends = " to ".join(map(_short, found.ends(name)))
        table.add_row(title, _short(interval.mean), ends, *naive)
    return table


def _notes(found: Estimate, merged: bool) -> Iterator[str]:
    terms, size = found.terms, found.sizes[0]
    yield (
        f"threshold: {terms.criterion.text}, chosen on the threshold set; in-sample: chosen on "
        "the inference set itself"
    )
    yield (
        f"prevalence {terms.prevalence:g}, {terms.parts_per_shift:g} parts a shift; at the mean "
        f"sensitivity and specificity {found.precision:.1%} of alarms are right"
    )
    yield (
        "normal images of the test split are merged with the others (--keep-test-normals: not)"
        if merged
        else "only normal images that are stated to be test ones are measured on"
    )
    yield (
        f"images: {size['train']} to train on; threshold set {size['threshold_normal']} normal, "
        f"{size['threshold_anomalous']} anomalous; inference set {size['inference_normal']} "
        f"normal, {size['inference_anomalous']} anomalous"
        + ("" if found.equal else "; groups or too few images make them unequal")
    )


def _terms(
    rule: ThresholdRule,
    max_fpr: float | None,
    min_sensitivity: float | None,
    cost_fn: float | None,
    cost_fp: float | None,
    prevalence: float,
    parts_per_shift: float,
    of_normals: tuple[float | None, float | None],
) -> Terms:
    from autosearch.study import Terms

    of_cost = prevalence if rule == ThresholdRule.COST else None
    criterion = criterion_of(
        rule, max_fpr, min_sensitivity, of_cost, cost_fn, cost_fp, *of_normals
    )
    return Terms(criterion, prevalence, parts_per_shift)


def _short(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


@contextmanager
def _bar() -> Iterator[Callable[[Update], None]]:
    """Progress over images read, then over repeats with the time left."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=math.inf,  # A repeat may take longer than any period.
    )
    with bar:
        tasks: dict[str, TaskID] = {}

        def show(update: Update) -> None:
            if update.stage in ("checking", "executor"):
                console.print(escape(update.text), highlight=False)
                return
            named = f"{update.text}: repeats" if update.stage == "estimating" else update.stage
            if named not in tasks:
                for earlier in tasks.values():
                    bar.update(earlier, visible=False)
                tasks[named] = bar.add_task(named, total=update.total, completed=int(update.done))
            bar.update(tasks[named], completed=update.done, total=update.total)
            if update.stage == "estimating" and not console.is_terminal:
                console.print(f"{update.done:g} of {update.total:g} repeats", highlight=False)

        yield show
