"""Searching and looking at a study; the other commands stand in modules of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from autosearch import __version__
from autosearch.cli.dashboard import dashboard
from autosearch.cli.evaluate import evaluate
from autosearch.cli.export import export, predict
from autosearch.cli.listings import objectives, runners, spaces
from autosearch.cli.report import report
from autosearch.cli.storage import AddressOption, StorageOption, hidden
from autosearch.cli.supernet import supernet_app
from autosearch.errors import one_line

if TYPE_CHECKING:  # Imported where they are used, so that --help answers at once.
    from autosearch.contracts import TrialRecord
    from autosearch.spec import StudySpec
    from autosearch.storage import StudyFolder

app = typer.Typer(
    name="autosearch",
    help="Search hyperparameters and architectures for industrial visual anomaly segmentation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="Look at datasets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(supernet_app, name="supernet")

console = Console()
INTERRUPTED = 130
"""Exit code of a search that was stopped before its budget was met."""


class ExecutorName(StrEnum):
    """Where trials run."""

    RAY = "ray"
    LOCAL = "local"


class LogLevel(StrEnum):
    """What is written into a study's log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Directory = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")]
Trials = Annotated[
    int | None, typer.Option("--trials", min=1, help="Trials in all, replacing the spec's.")
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", help="Stop handing out trials after 90, 90s, 15m or 2h."),
]
ExecutorOption = Annotated[
    ExecutorName, typer.Option("--executor", help="Ray Tune workers, or this process alone.")
]
LevelOption = Annotated[
    LogLevel, typer.Option("--log-level", help="Least level that goes into study.log.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the spec; repeatable."),
]


@app.command()
def run(
    space: Annotated[
        str, typer.Argument(metavar="SPACE", help="A YAML file, or a name: `autosearch spaces`.")
    ],
    overrides: Overrides = None,
    trials: Trials = None,
    timeout: Timeout = None,
    executor: ExecutorOption = ExecutorName.RAY,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the study and of its folder.")
    ] = None,
    results: Annotated[
        Path, typer.Option("--results", help="Folder that holds the studies.")
    ] = Path("results"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the study if it exists.")
    ] = False,
    address: AddressOption = None,
    storage: StorageOption = None,
    log_level: LevelOption = LogLevel.INFO,
) -> None:
    """Search a space: trials, progress, and the Pareto front at the end.

    Ctrl-C stops at once and loses no finished trial.
    """
    from autosearch.contracts import registry
    from autosearch.spec import load_spec, study_name
    from autosearch.study import new_folder

    given = {"study.trials": trials, "study.timeout": timeout}
    given["study.name"] = study_name(name) if name else None
    extra = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    spec = load_spec(registry.find_space(space), [*(overrides or []), *extra])
    folder = new_folder(results, spec, resume, hidden(storage))
    _search(spec, folder, executor, address, log_level)


@app.command()
def resume(
    directory: Directory,
    trials: Trials = None,
    timeout: Timeout = None,
    executor: ExecutorOption = ExecutorName.RAY,
    address: AddressOption = None,
    storage: StorageOption = None,
    log_level: LevelOption = LogLevel.INFO,
) -> None:
    """Continue a study that was stopped, or give a finished one more trials."""
    from autosearch.spec import load_spec
    from autosearch.storage import StudyFolder

    folder = StudyFolder.open(directory, hidden(storage))
    given = {"study.trials": trials, "study.timeout": timeout}
    extra = [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]
    _search(load_spec(folder.spec_path, extra), folder, executor, address, log_level)


@app.command()
def show(
    directory: Directory,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object: study, counts, front or trial.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The front as CSV, or the trial.")] = False,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, help="One trial: values, test, traceback.")
    ] = None,
) -> None:
    """Show a study's Pareto front. Counts of trials add up: each trial has one status.

    Figures of the test split stand beside those of validation where `autosearch evaluate` has
    measured them.
    """
    from autosearch.cli import console as view
    from autosearch.cli.final_view import final_warnings, tested_record
    from autosearch.contracts import registry
    from autosearch.storage import StudyFolder
    from autosearch.study import counts, front, front_csv

    folder = StudyFolder.open(directory)
    spec, records, meta = folder.load_spec(), folder.records(), folder.load_meta()
    objectives = registry.resolve_objectives(spec)
    directions = {name: objective.direction for name, objective in objectives.items()}
    tests = folder.load_tests()
    listed = front(records, directions) if trial is None else [_record(folder, records, trial)]
    if as_csv:
        sys.stdout.write(front_csv([tested_record(record, tests) for record in listed]))
    elif as_json:
        number = counts(records)
        study = {
            "name": spec.study.name,
            "runner": spec.study.runner,
            "objectives": directions,
            "budget": spec.study.trials,
            "finished": sum(number.values()) - number["running"],
            "data": meta.get("data", {}),
            "weights": meta.get("weights", []),
        }
        plain = [_plain(record, tests.get(record.number), trial is not None) for record in listed]
        shown = {"front": plain} if trial is None else {"trial": plain[0]}
        print(json.dumps({"study": study, "counts": number, **shown}, indent=2))
    elif trial is not None:
        _show_trial(folder, listed[0], tests)
    else:
        console.print(f"[bold]{spec.study.name}[/]: {view.counts_line(counts(records))}"
                      f" of {spec.study.trials}")  # fmt: skip
        _print_all(view.provenance(meta), view.warnings(meta), final_warnings(tests))
        console.print(view.front_table(listed, objectives, tests=tests))


for following in (report, dashboard, evaluate, export, predict, spaces, runners, objectives):
    app.command()(following)


@app.command()
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
    from autosearch.storage import StudyFolder
    from autosearch.study import compare

    folder = StudyFolder.open(directory)
    found = compare(folder.records(), folder.load_tests(), first, second)
    low, high = found.interval
    console.print(f"{first} and {second} over {found.trials} different configurations")
    console.print(f"Spearman {found.spearman:+.3f}, 95 % from {low:+.3f} to {high:+.3f}")
    console.print(f"Kendall  {found.kendall:+.3f}")


@data_app.command("check")
def check(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Folder of the dataset, or a CSV.")],
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="One product or texture.")],
    overrides: Overrides = None,
) -> None:
    """Count images, masks and regions, and name every problem found; exit code 1 on errors.

    With --set, how a study would split it: --set dataset.validation.real_per_type=2.
    """
    from autosearch.cli import console as view
    from autosearch.data import check_dataset
    from autosearch.spec import dataset_spec

    given = [f"root={json.dumps(root)}", f"category={json.dumps(category)}"]
    report = check_dataset(dataset_spec([*given, *(overrides or [])]))
    _print_all(view.check_report(report))
    if not report.usable:
        raise typer.Exit(1)


def _search(
    spec: StudySpec,
    folder: StudyFolder,
    executor: ExecutorName,
    address: str | None,
    log_level: LogLevel,
) -> None:
    from autosearch.cli import console as view
    from autosearch.executors import make_executor
    from autosearch.storage import StudyLog
    from autosearch.study import counts, front, load_inputs, open_driver, run as run_search

    if folder.database is not None:
        folder.database.open()
    chosen = make_executor(executor, address)
    with _reading(console) as progress:
        inputs = load_inputs(spec, progress)
    meta = inputs.meta()
    _print_all(view.provenance(meta), view.warnings(meta))
    shown = view.SearchProgress(console, inputs.objectives, spec.study.trials)
    with StudyLog(folder.log_path, log_level) as log:
        driver = open_driver(
            inputs, folder, lambda record: shown.update(driver.summary(), record), log
        )
        shown.update(driver.summary())
        with shown.shown():
            run_search(inputs, folder, driver, chosen)
    records = folder.records()
    best = front(records, inputs.directions)
    console.print(view.front_table(best, inputs.objectives))
    _print_all(view.warnings(meta))
    number = counts(records)
    place = escape(str(folder.path))
    console.print(f"{view.counts_line(number)}; results in [bold]{place}[/]")
    if sum(number.values()) - number["running"] < spec.study.trials:
        why = "Stopped" if driver.stopped else "Time is up"
        console.print(f"{why}. Continue with: autosearch resume {place}")
        raise typer.Exit(INTERRUPTED if driver.stopped else 0)
    console.print("Next:")
    for command in view.next_commands(folder.path, records, best):
        console.print(f"  {command}")


def _record(folder: StudyFolder, records: Sequence[TrialRecord], number: int) -> TrialRecord:
    from autosearch.errors import StudyError

    if not number < len(records):
        raise StudyError(f"{folder.path}: no trial {number}; there are {len(records)}")
    return records[number]


def _show_trial(
    folder: StudyFolder, record: TrialRecord, tests: Mapping[int, Mapping[str, Any]]
) -> None:
    from autosearch.cli.console import trial_table
    from autosearch.cli.final_view import final_tables, final_warnings

    console.print(trial_table(record))
    if (figures := tests.get(record.number)) is not None:
        _print_all(final_tables(figures), final_warnings({record.number: figures}))
    for path in sorted(folder.trial_path(record.number).glob("*")):
        if path.is_symlink() or not path.is_file():
            continue
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
    if figures is not None:
        plain["test"] = {part: figures[part] for part in ("metrics", "intervals")}
    return plain


@contextmanager
def _reading(target: Console) -> Iterator[Callable[[int, int], None]]:
    from rich.progress import Progress

    with Progress(console=target, transient=True, disable=not target.is_terminal) as bar:
        task = bar.add_task("reading images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_all(*groups: Any) -> None:
    for group in groups:
        for line in group:
            console.print(line, highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"autosearch {__version__}")
        raise typer.Exit


@app.callback()
def root_options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Search hyperparameters and architectures for industrial visual anomaly segmentation."""
