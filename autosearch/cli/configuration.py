"""A configuration in a terminal: what is built, and what of it nobody asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from autosearch.contracts import ParameterInfo, TrialRecord, left_on
from autosearch.spec import Space, Value

Cuts = Mapping[str, str]
"""Short names of parameters by what stands behind the dot."""


def short(record: TrialRecord, cuts: Cuts | None = None) -> str:
    """What is built of a configuration on one line, stage by stage or level by level.

    What is off is left out. Parameters that the space does not name stand in parentheses where
    they belong to a group such as ``stage1.``; by themselves they are left out.

    Args:
        record: A trial.
        cuts: What `cut_names` gives for all trials of a table.
    """
    cuts = cut_names([record]) if cuts is None else cuts
    whole: list[str] = []
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for name, value in _active(record):
        head, dot, tail = name.rpartition(".")
        default = name not in record.params
        if dot:
            groups.setdefault(head, ([], []))[default].append(f"{cuts[tail]}{_shown(value)}")
        elif not default and not isinstance(value, bool):
            whole.append(f"{name} {_shown(value)}")
    for head, (asked, usual) in groups.items():
        whole.append(" ".join([head, *asked, *([f"({' '.join(usual)})"] if usual else [])]))
    return "  ".join(whole)


def cut_names(records: Iterable[TrialRecord]) -> dict[str, str]:
    """Short names for `short`: initials of the words, or as many letters as tell them apart."""
    shown = [name for record in records for name, _ in _active(record) if "." in name]
    tails = sorted({name.rpartition(".")[2] for name in shown})
    return {tail: _cut(tail, [other for other in tails if other != tail]) for tail in tails}


def legend(records: Sequence[TrialRecord], cuts: Cuts) -> Iterator[str]:
    """What short names and parentheses mean."""
    if cuts:
        yield ", ".join(f"{cut} {tail}" for tail, cut in cuts.items() if tail and cut != tail)
    if any("." in n and n not in record.params for record in records for n, _ in _active(record)):
        yield "in parentheses: defaults, which the space does not name"


def built_by_default(space: Space, known: Mapping[str, ParameterInfo]) -> Iterator[str]:
    """One line about parts that are built although the space does not name them, if there are any.

    Args:
        space: What is searched.
        known: The runner's parameters.
    """
    found = left_on(space, known)
    if not found:
        return
    parts = ", ".join(f"{name} {json.dumps(known[name].default)}" for name in found)
    off = " ".join(f"--set space.{name}={json.dumps(value)}" for name, value in found.items())
    yield f"defaults {parts}: the space does not name them. To leave them out: {off}"


def _active(record: TrialRecord) -> Iterator[tuple[str, Value]]:
    for name, value in record.canonical.items():
        if value is not None and value is not False:
            yield name, value


def _shown(value: Value) -> str:
    if value is True:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(name: str, others: Sequence[str]) -> str:
    """The first letters of a name's words, as few as no other name has."""
    for letters in range(1, len(name) + 1):
        found = _letters(name, letters)
        if all(_letters(other, letters) != found for other in others):
            return found
    return name


def _letters(name: str, number: int) -> str:
    return "".join(word[:number] for word in name.split("_")).upper()
