"""Configurations of earlier studies to begin a study with, and their values where they hold.

A space that grows need not be searched anew: what lies in the new space is tried first. Where all
that decides a value is what it was, the value itself is taken over, and nothing is evaluated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from autosearch import __version__
from autosearch.contracts import (
    PREPROCESS,
    Outcome,
    Status,
    TrialRecord,
    canonical_key,
    registry,
)
from autosearch.errors import ConfigError, Infeasible
from autosearch.files import user_path
from autosearch.spec import Params, StartSpec, StudySpec, differences
from autosearch.storage import StudyFolder
from autosearch.study.inputs import Inputs, machine
from autosearch.study.scorable import named_figures
from autosearch.study.summary import front

_KEY = "start.from"

_FREE = {"space", "objectives", "constraints"}
"""Keys of a spec's identity that may differ where values are taken over."""
_OF_GRAPHS = {"resources.latency_threads"}
"""Those that may differ unless a figure of the exported graph is asked for."""

_BY_CLOCK = {"ms", "s"}
"""Units of objectives that another machine has other values of."""

_log = logging.getLogger(__name__)


def first_trials(inputs: Inputs, windowed: Sequence[Params] = ()) -> list[dict[str, Any]]:
    """What a new study begins with if its ``start`` names earlier ones, or asks for windows.

    Args:
        inputs: Of the new study.
        windowed: What follows the first configuration; see
            `autosearch.study.windows.first_windows`.

    Returns:
        Nothing where a study begins with what its spec lists, else one mapping a trial, in order,
        as JSON has it. ``params``: values to draw. Of trials whose values hold also ``key`` (of
        the canonical configuration), ``from`` (folder and number), and all that is taken over: see
        `Teller.taken`.

    Raises:
        StudyError: There is no study in a folder, or it cannot be read.
        ConfigError: None of a study's configurations has values and lies in the space.
    """
    start = inputs.spec.start
    if not isinstance(start, StartSpec) or not (start.from_ or windowed):
        return []
    listed = [*start.configurations[:1], *windowed, *start.configurations[1:]]
    found: list[dict[str, Any]] = [{"params": dict(params)} for params in listed]
    known = {key: one for one in found if (key := _key_of(inputs, one["params"])) is not None}
    for name in start.from_:
        folder = StudyFolder.open(user_path(name, _KEY).resolve())
        for key, one in _of_study(inputs, folder, start.top):
            if key not in known:
                known[key] = one
                found.append(one)
            elif "key" not in known[key]:
                known[key] |= one | {"params": known[key]["params"]}
    return found


def _key_of(inputs: Inputs, params: Params) -> str | None:
    """Key of a configuration, None if that depends on what is still to be drawn."""
    try:
        canonical = inputs.runner.canonical(dict(params))
    except Infeasible:
        return None
    drawn = {parameter.name for parameter in inputs.spec.parsed_space.parameters} - params.keys()
    return None if drawn & canonical.keys() else canonical_key(canonical)


def _of_study(
    inputs: Inputs, folder: StudyFolder, top: int | None
) -> list[tuple[str, dict[str, Any]]]:
    """The best of one study's configurations with their keys."""
    spec = folder.load_spec()
    records = [r for r in folder.trials.records() if r.status == Status.COMPLETE and r.canonical]
    if not records:
        raise ConfigError(_KEY, str(folder.path), "a study that has complete trials")
    against = _reason_against(inputs, folder, spec)
    same_runner = spec.study.runner == inputs.spec.study.runner
    held: list[tuple[str, dict[str, Any]]] = []
    outside: list[str] = []
    for record in _best_first(inputs, folder, spec, records):
        if top is not None and len(held) == top:
            break
        try:
            params = _in_space(inputs, record, same_runner)
            canonical = inputs.runner.canonical(dict(params))
        except Infeasible as reason:
            outside.append(f"of trial {record.number}, {reason}")
            continue
        entry: dict[str, Any] = {"params": params}
        if against is None and canonical == record.canonical:
            entry |= _values(inputs, folder, record)
        held.append((canonical_key(canonical), entry))
    if not held:
        allowed = f"a study with configurations that this space holds; {outside[0]}"
        raise ConfigError(_KEY, str(folder.path), allowed)
    if against is not None:
        _log.warning("%s: its configurations are evaluated again: %s", folder.path, against)
    return held


def _best_first(
    inputs: Inputs, folder: StudyFolder, spec: StudySpec, records: Sequence[TrialRecord]
) -> Iterator[TrialRecord]:
    """Trials front by front, in each by the first objective that is maximised, or the first."""
    known = registry.objectives(inputs.others, folder.load_meta())
    objectives = registry.resolve_objectives(spec, known)
    directions: dict[str, str] = {name: o.direction for name, o in objectives.items()}
    name = next((n for n, way in directions.items() if way == "maximize"), next(iter(directions)))
    sign = -1 if directions[name] == "maximize" else 1
    left = list(records)
    while left:
        best = front(left, directions)
        yield from sorted(best, key=lambda record: sign * record.values[name])
        numbers = {record.number for record in best}
        left = [record for record in left if record.number not in numbers]


def _in_space(inputs: Inputs, record: TrialRecord, same_runner: bool) -> Params:
    """A trial's configuration in the new space.

    Parameters that the trial did not draw have the value that it was built with, or else the
    runner's default.

    Raises:
        Infeasible: The space does not hold it, or it would be something else there.
    """
    usual = {name: info.default for name, info in inputs.runner.parameters.items()}
    known = {**usual, **record.canonical, **record.params}
    params: Params = {}
    for parameter in inputs.spec.parsed_space.parameters:
        if not parameter.active(params):
            continue
        if parameter.name not in known or not parameter.contains(known[parameter.name]):
            raise Infeasible(f"{parameter.name} is {known.get(parameter.name)}")
        params[parameter.name] = known[parameter.name]
    if same_runner:
        now = inputs.runner.canonical(dict(params))
        before = inputs.runner.canonical(dict(record.canonical))
        if (done := record.canonical.get(PREPROCESS)) is not None:
            before[PREPROCESS] = done  # Which a runner whose space does not name it leaves out.
        for name in {**before, **now}:
            if name not in before or name not in now or before[name] != now[name]:
                raise Infeasible(f"{name} is {before.get(name)}, here {now.get(name)}")
    return params


def _reason_against(inputs: Inputs, folder: StudyFolder, spec: StudySpec) -> str | None:
    """Why values of a study do not hold in the new one; None if they do."""
    then, now = spec.identity(), inputs.spec.identity()
    timed = any(inputs.known[name].graph for _, name in named_figures(inputs.spec))
    free = _FREE if timed else _FREE | _OF_GRAPHS
    then, now = ({k: v for k, v in its.items() if k not in free} for its in (then, now))
    for key, before, after in differences(StudySpec, then, now):
        return f"{key} is {after}, {before} there"
    meta, guard = folder.load_meta(), inputs.guard()
    if meta.get("autosearch") != __version__:
        return f"it is autosearch {__version__}, {meta.get('autosearch')} there"
    hashes = {
        "data": (meta.get("data") or {}).get("sha256"),
        "weights": {weights["name"]: weights["sha256"] for weights in meta.get("weights", ())},
        "textures": meta.get("textures"),
    }
    for name, sha256 in hashes.items():
        if guard.get(name) != sha256:
            return f"the {name} are others than there"
    clocked = [name for name, its in inputs.objectives.items() if its.unit in _BY_CLOCK]
    if clocked and meta.get("machine") != machine():
        return f"{clocked[0]} depends on the machine, which is another one"
    return None


def _values(inputs: Inputs, folder: StudyFolder, record: TrialRecord) -> dict[str, Any]:
    """What is taken over of a trial; empty if it has not all that the new study asks for."""
    figures = {**record.measured, **record.values}
    constraints = inputs.spec.parsed_constraints
    wanted = [*inputs.spec.objectives, *(constraint.name for constraint in constraints)]
    if any(name not in figures for name in wanted):
        return {}
    violations = {str(bound): bound.violation(figures[bound.name]) for bound in constraints}
    broken = next((text for text, by in violations.items() if by > 0), None)
    values = {} if broken else {name: figures.pop(name) for name in inputs.spec.objectives}
    complete = Outcome(Status.COMPLETE, values, violations=violations)
    if complete.checked(inputs.spec.objectives if not broken else ()).status != Status.COMPLETE:
        return {}
    reason = f"breaks {broken}: {figures[broken.split()[0]]:.4g}" if broken else None
    status = Status.INFEASIBLE if broken else Status.COMPLETE
    return {
        "key": canonical_key(record.canonical),
        "from": [str(folder.path), record.number],
        "status": str(status),
        "values": values,
        "measured": figures,
        "violations": violations,
        "seconds": record.seconds,
        "reason": reason,
        "threads": record.threads,
        "curve": record.curve,
    }
