"""``autosearch show``, ``recommend`` and ``correlate``: what a study has found."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from autosearch.cli.completion import trial_numbers
from autosearch.cli.note import note_lines
from autosearch.cli.options import Directory
from autosearch.cli.repeat import runs_of
from autosearch.cli.screen import console, print_all, print_unbroken, reading_bar
from autosearch.cli.threshold_options import (
    CostFnOption,
    CostFpOption,
    FactorOption,
    MaxFprOption,
    MinSensitivityOption,
    PercentileOption,
    PrevalenceOption,
    ThresholdRule,
    criterion_of,
)
from autosearch.errors import ConfigError, StudyError, one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from autosearch.api import Study
    from autosearch.contracts import TrialRecord
    from autosearch.metrics import Criterion, Threshold


def show(
    directory: Directory,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object: study, counts, front or trial.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The front as CSV, or the trial.")] = False,
    as_latex: Annotated[
        bool, typer.Option("--latex", help="The front, or the trial, as a table of a paper.")
    ] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="The same as a table in Markdown.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAMES",
            show_default="as in the terminal",
            help="Of such a table, such as trial,gflops,rwap,test.ap,params.width.",
        ),
    ] = None,
    trial: Annotated[
        int | None,
        typer.Option(
            "--trial",
            min=0,
            help="One trial: values, test, traceback.",
            autocompletion=trial_numbers,
        ),
    ] = None,
) -> None:
    """Show a study's Pareto front. Counts of trials add up: each trial has one status.

    Figures of the test split stand beside those of validation where `autosearch evaluate` has
    measured them, of single trials and of ensembles.
    """
    from autosearch.api import open_study
    from autosearch.cli import console as view
    from autosearch.cli.final_view import ensembles_table, final_warnings, tested_record
    from autosearch.study import front_csv, taken_over

    study = open_study(directory)
    objectives, tests = study.objectives, study.tests
    listed = study.front if trial is None else [study.trial(trial)]
    if as_latex or as_markdown:
        if (as_latex and as_markdown) or as_csv or as_json:
            raise ConfigError("--latex" if as_latex else "--markdown", True, "one form alone")
        sys.stdout.write(_paper(study, listed, trial is not None, as_latex, columns))
    elif columns is not None:
        raise ConfigError("--columns", columns, "--latex or --markdown beside it")
    elif as_csv:
        sys.stdout.write(front_csv([tested_record(record, tests) for record in listed]))
    elif as_json:
        plain = [_plain(record, tests.get(record.number), trial is not None) for record in listed]
        shown: dict[str, Any] = {"front": plain} if trial is None else {"trial": plain[0]}
        if trial is not None and (kept := study.notes.get(trial)) is not None:
            shown["note"] = kept.model_dump()
        if trial is None and (ensembles := study.ensembles):
            shown["ensembles"] = {name: _tested(figures) for name, figures in ensembles.items()}
        print(json.dumps({"study": _about(study), "counts": study.counts, **shown}, indent=2))
    elif trial is not None:
        _show_trial(study, listed[0])
    else:
        meta = study.meta
        console.print(f"[bold]{study.spec.study.name}[/]: {view.counts_line(study.counts)}"
                      f" of {study.budget}")  # fmt: skip
        print_all(view.provenance(meta), view.warnings(meta), final_warnings(tests))
        print_unbroken(map(escape, taken_over(study.trials)), view.doubt_lines(study.doubt))
        console.print(_front(study, listed))
        print_all(ensembles_table(study.ensembles, objectives))
        print_unbroken(view.cost_warnings(listed, objectives))
        print_all(runs_of(study))


def recommend(
    directory: Directory,
    budget: Annotated[
        list[str] | None,
        typer.Option("--budget", metavar="BOUND", help="Such as 'gflops <= 0.5'; repeatable."),
    ] = None,
    prefer: Annotated[
        str | None,
        typer.Option(
            "--prefer",
            metavar="FIGURE",
            show_default="the first objective that is maximised",
            help="The objective or measured figure that decides.",
        ),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule",
            metavar="RULE",
            show_default="balanced where there are real and made anomalies, else best",
            help="best by that figure; pessimistic: less its standard error; synthetic: by "
            "rwAP of real and of made anomalies; balanced: by AP, too; ranks: by several figures; "
            "smooth: with that of similar configurations.",
        ),
    ] = None,
    floor: Annotated[
        bool, typer.Option("--floor", help="AP no lower than that of trial 0, the fixed choice.")
    ] = False,
    threshold: Annotated[
        ThresholdRule | None,
        typer.Option(
            "--threshold-rule",
            "--threshold",
            help="Fit the trial again, and say its thresholds by this rule as export would.",
        ),
    ] = None,
    max_fpr: MaxFprOption = None,
    min_sensitivity: MinSensitivityOption = None,
    prevalence: PrevalenceOption = None,
    cost_fn: CostFnOption = None,
    cost_fp: CostFpOption = None,
    percentile: PercentileOption = None,
    factor: FactorOption = None,
) -> None:
    """Name the trial to take: of those within a budget the best by validation.

    Reasons say how often it would win with other draws of the same defects. None is named where
    validation cannot tell trials apart. Where memory banks are searched, up to five trials are
    named that are steadier as one detector, at no more operations in all than the budget or the
    fixed choice.
    """
    from autosearch.api import open_study
    from autosearch.cli import console as view

    given = (max_fpr, min_sensitivity, prevalence, cost_fn, cost_fp, percentile, factor)
    criterion = None
    if threshold is not None:
        criterion = criterion_of(threshold, *given)
    elif any(number is not None for number in given):
        raise ConfigError("--threshold-rule", None, "the rule that the given numbers are of")
    study = open_study(directory)
    found = study.recommend(budget or (), prefer, rule, floor)
    listed = [found.trial, *found.runners_up]
    if found.doubt is not None:
        print_unbroken(view.doubt_lines(found.doubt))
        console.print(_front(study, listed, "highest by validation, which is chance here"))
        return
    title = "with its runners-up" if found.runners_up else "the only one"
    console.print(f"trial [bold]{found.trial.number}[/]", highlight=False)
    print_all(f"  {escape(reason)}" for reason in found.reasons)
    console.print(_front(study, listed, title))
    if found.together:
        console.print(f"steadier: {found.together_text}", highlight=False, soft_wrap=True)
    if criterion is not None:
        _print_thresholds(study, found.trial.number, criterion)
    console.print("Next:")
    for command in _commands(study.path, found.trial.number, criterion):
        console.print(f"  {command}", highlight=False)
    if found.together:
        numbers = ",".join(map(str, found.together))
        name = escape(shlex.quote(str(study.path)))
        console.print(
            f"  autosearch evaluate {name} --ensemble {numbers}   # the same of all together",
            highlight=False,
            soft_wrap=True,
        )


def _print_thresholds(study: Study, number: int, criterion: Criterion) -> None:
    """What `export` would choose for a trial, and what it reaches on validation."""
    with reading_bar() as bar:
        found = study.thresholds(number, threshold=criterion, progress=bar)
    print_all(map(threshold_line, ("image", "pixel"), (found.image, found.pixel)))
    if not found.marked:
        console.print("no pixel of validation is marked: that of pixels is that of images")


def threshold_line(kind: str, chosen: Threshold) -> str:
    """A threshold, its rule, and the rates that it reaches on validation."""
    rates = f"TPR {chosen.tpr:.3f}, FPR {chosen.fpr:.3f}, F1 {chosen.f1:.3f}"
    return f"threshold  {kind} {chosen.value:.6g} ({chosen.rule}; validation {rates})"


def _commands(path: Path, number: int, criterion: Criterion | None = None) -> Iterable[str]:
    """What to type next about one trial; thresholds of an export by a criterion, if any."""
    folder = escape(shlex.quote(str(path)))
    yield f"autosearch evaluate {folder} --trial {number}   # figures on the test split"
    yield f"autosearch export {folder} --trial {number}{_rule_options(criterion)}"


def _rule_options(criterion: Criterion | None) -> str:
    if criterion is None:
        return ""
    numbers = {name: value for name, value in asdict(criterion).items() if value is not None}
    rule = numbers.pop("rule")
    given = (f" --{name.replace('_', '-')} {value:g}" for name, value in numbers.items())
    return f" --threshold-rule {rule}{''.join(given)}"


def correlate(
    directory: Directory,
    first: Annotated[str, typer.Argument(metavar="FIGURE", help="Such as rwap_synthetic.")],
    second: Annotated[
        str, typer.Argument(metavar="OTHER", help="Such as rwap_real, gflops or test.rwap.")
    ],
) -> None:
    """Ask whether one figure ranks the trials of a study as another does.

    Figures are objectives, measured values, and those of the test split as test.NAME. With
    synthetic and real anomalies in validation, rwap_synthetic and rwap_real are measured apart.
    """
    from autosearch.api import open_study

    found = open_study(directory).correlate(first, second)
    low, high = found.interval
    console.print(f"{first} and {second} over {found.trials} different configurations")
    over = "over configurations (bootstrap)"
    console.print(f"Spearman {found.spearman:+.3f}, 95 % from {low:+.3f} to {high:+.3f} {over}")
    console.print(f"Kendall  {found.kendall:+.3f}")


def _front(
    study: Study, listed: Sequence[TrialRecord], title: str | None = None
) -> RenderableType:
    from autosearch.cli.console import front_table

    prevalence = study.spec.dataset.prevalence
    return front_table(
        listed, study.objectives, tests=study.tests, title=title, prevalence=prevalence
    )


def _paper(
    study: Study, listed: Sequence[TrialRecord], whole: bool, latex: bool, columns: str | None
) -> str:
    """The front, or all of one trial, for a paper; or the columns that are asked for."""
    from autosearch.cli import cells, paper

    if not listed:
        raise StudyError(f"{study.path}: no complete trial, so no table")
    prevalence = study.spec.dataset.prevalence
    of_study = (study.objectives, study.tests, prevalence)
    if columns is not None:
        names = [name.strip() for name in columns.split(",") if name.strip()]
        found = cells.chosen_cells(listed, names, *of_study)
    elif whole:
        found = cells.trial_cells(listed[0], prevalence)
    else:
        found = cells.front_cells(listed, *of_study)
    return (paper.latex if latex else paper.markdown)(found)


def _about(study: Study) -> dict[str, Any]:
    spec, meta, number = study.spec, study.meta, study.counts
    return {
        "name": spec.study.name,
        "runner": spec.study.runner,
        "objectives": {name: o.direction for name, o in study.objectives.items()},
        "budget": study.budget,
        "finished": sum(number.values()) - number["running"],
        "data": meta.get("data", {}),
        "weights": meta.get("weights", []),
        "doubt": study.doubt,
    }


def _show_trial(study: Study, record: TrialRecord) -> None:
    from autosearch.cli.console import trial_table
    from autosearch.cli.final_view import final_tables, final_warnings

    console.print(trial_table(record, study.spec.dataset.prevalence))
    if (figures := study.tests.get(record.number)) is not None:
        print_all(final_tables(figures), final_warnings({record.number: figures}))
    if (kept := study.notes.get(record.number)) is not None:
        print_all(["note"], (f"  {line}" for line in note_lines(kept)))
    for path in study.files(record.number):
        console.print(f"file {escape(one_line(str(path)))}")
        if path.suffix == ".txt":
            text = path.read_text(encoding="utf-8", errors="replace").expandtabs()
            for line in text.splitlines():
                console.print(one_line(line), markup=False, highlight=False)


def _plain(record: TrialRecord, figures: dict[str, Any] | None, whole: bool) -> dict[str, Any]:
    """A trial for JSON: as listed in the front, or all of it; its test figures if it has any."""
    if whole:
        return {**asdict(record), "test": figures}
    plain: dict[str, Any] = {"number": record.number, "values": record.values}
    plain["params"] = record.params
    if record.taken_from is not None:
        plain["taken_from"] = record.taken_from
    if figures is not None:
        plain["test"] = _tested(figures)
    return plain


def _tested(figures: dict[str, Any]) -> dict[str, Any]:
    """Test figures for JSON; of an ensemble, which has no record, its objectives beside them."""
    told = {part: figures[part] for part in ("metrics", "intervals", "fit")}
    objectives = figures["validation"].get("objectives")
    return told if objectives is None else {"values": objectives, "test": told}
