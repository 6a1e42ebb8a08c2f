"""What tables of trials say, cell by cell, before a terminal or a paper lays them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autosearch.cli.configuration import Cuts, cut_names, legend, short
from autosearch.cli.final_view import (
    Tests,
    any_has,
    comparable,
    fit_notes,
    named,
    tested_names,
    titled,
    with_interval,
)
from autosearch.cli.tables import number_text
from autosearch.contracts import Objective, TrialRecord, registry
from autosearch.errors import ConfigError, did_you_mean, one_line
from autosearch.study import compared, figure_of

_CONFIGURATION, _TEST, _PARAMS = "configuration", "test.", "params."
NONE = "-"
"""What stands for what is not known."""

_RESAMPLED = "[95 %]: over images of the test split, bootstrap"


@dataclass(frozen=True)
class Cells:
    """A table.

    Attributes:
        heads: Of its columns.
        rows: As many texts each.
        notes: Lines that stand below.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def front_cells(
    records: Sequence[TrialRecord],
    objectives: Mapping[str, Objective],
    tests: Tests,
    prevalence: float | None = None,
) -> Cells:
    """Trials with what they are compared by, test figures if there are any, and configurations.

    Args:
        records: At least one.
        objectives: The study's, in its order.
        tests: Test figures by trial number.
        prevalence: That calibrated figures stand for.
    """
    names = compared(objectives)
    evaluated = [tests[record.number] for record in records if record.number in tests]
    tested = tested_names(objectives, evaluated) if evaluated else []
    if any(tests.get(record.number, {}).get("prevalence") for record in records):
        # Only at one prevalence may figures of validation and test stand side by side.
        tested = list(dict.fromkeys(comparable(name, prevalence) for name in tested))
        names += [name for name in tested if name not in names]
    tested = [name for name in tested if any_has(evaluated, name)]
    chosen = ["trial", *names, *(_TEST + name for name in tested), _CONFIGURATION]
    return chosen_cells(records, chosen, objectives, tests, prevalence)


def chosen_cells(
    records: Sequence[TrialRecord],
    columns: Iterable[str],
    objectives: Mapping[str, Objective],
    tests: Tests,
    prevalence: float | None = None,
) -> Cells:
    """Trials with the columns that somebody wants.

    Args:
        records: See `front_cells`.
        columns: ``trial``, ``status``, ``duration``, ``configuration``, names of objectives and
            measured values, ``test.NAME`` and ``params.NAME``.
        objectives: See `front_cells`.
        tests: See `front_cells`.
        prevalence: See `front_cells`.

    Raises:
        ConfigError: No trial has such a column, or none is named.
    """
    known = registry.objectives() | dict(objectives)
    evaluated = [tests[record.number] for record in records if record.number in tests]
    cuts = cut_names(records)
    makers = _makers(records, objectives, tests, cuts)
    heads, texts, notes = [], [], []
    wanted = list(columns)
    if not wanted:
        raise ConfigError("--columns", "", f"names of columns, such as {', '.join(makers)}")
    for name in wanted:
        if name not in makers:
            raise ConfigError("--columns", name, f"a column; {did_you_mean(name, makers)}")
        heads.append(_head(name, known, prevalence))
        texts.append([makers[name](record) for record in records])
    if _CONFIGURATION in wanted:
        notes += list(legend(records, cuts))
    if any(name.startswith(_TEST) for name in wanted):
        notes += [_RESAMPLED, *(f"test: fitted {note}" for note in fit_notes(evaluated))]
    rows = list(zip(*texts, strict=True))
    return Cells(heads, rows, [note for note in notes if note])


def trial_cells(record: TrialRecord, prevalence: float | None = None) -> Cells:
    """Everything that is known of one trial, a row each: what, and its value."""
    return Cells(("", ""), list(_about(record, prevalence)))


def _makers(
    records: Sequence[TrialRecord], objectives: Mapping[str, Objective], tests: Tests, cuts: Cuts
) -> dict[str, Callable[[TrialRecord], str]]:
    """How a cell is made, by name of every column that some trial has something for."""
    makers: dict[str, Callable[[TrialRecord], str]] = {
        "trial": lambda record: str(record.number),
        "status": lambda record: str(record.status),
        "duration": lambda record: _text(record.duration),
        _CONFIGURATION: lambda record: one_line(short(record, cuts)),
    }
    measured = [name for record in records for name in (*record.values, *record.measured)]
    for name in dict.fromkeys([*compared(objectives), *measured]):
        makers[name] = lambda record, n=name: _text(figure_of(record, n))  # type: ignore[misc]
    for name in dict.fromkeys(n for f in tests.values() for n in f["metrics"]):
        makers[_TEST + name] = lambda record, n=name: with_interval(  # type: ignore[misc]
            tests.get(record.number), n
        )
    for name in dict.fromkeys(name for record in records for name in record.params):
        makers[_PARAMS + name] = lambda record, n=name: (  # type: ignore[misc]
            _chosen(record.params[n]) if n in record.params else NONE
        )
    return makers


def _head(name: str, known: Mapping[str, Objective], prevalence: float | None) -> str:
    """A column's title: a figure with its unit and an arrow to where it is better."""
    if name.startswith(_TEST):
        return f"test {titled(name.removeprefix(_TEST), prevalence)} [95 %]"
    if name == "duration":
        return "duration (s)"
    if name not in known:
        return one_line(name.removeprefix(_PARAMS))
    unit = f" ({known[name].unit})" if known[name].unit else ""
    arrow = "↓" if known[name].direction == "minimize" else "↑"
    return f"{titled(name, prevalence)}{unit} {arrow}"


def _chosen(value: object) -> str:
    """A parameter's value: of a fraction no more digits than it has."""
    return f"{value:.4g}" if isinstance(value, float) else number_text(value)


def _text(value: object) -> str:
    return NONE if value is None else number_text(value)


def _about(record: TrialRecord, prevalence: float | None) -> Iterator[tuple[str, str]]:
    yield "trial", str(record.number)
    yield "status", str(record.status)
    if record.reason:
        yield "reason", one_line(record.reason)
    if record.cached_from is not None:
        yield "values from", f"trial {record.cached_from}"
    if record.source is not None:
        yield "taken from", one_line(record.source)
    if record.settings is not None:
        yield "settings", one_line(record.settings)
    for one in record.post:
        listed = ", ".join(f"{n} {number_text(v)}" for n, v in one["changes"].items())
        figures = ", ".join(f"{n} {number_text(v)}" for n, v in one["values"].items())
        yield "tried", f"{listed or 'proposed'}: {figures}"
    for title in ("values", "measured", "seconds", "params", "canonical"):
        for name, value in getattr(record, title).items():
            usual = " (default)" if title == "canonical" and name not in record.params else ""
            yield f"{title} {named(name, prevalence)}", number_text(value) + usual
