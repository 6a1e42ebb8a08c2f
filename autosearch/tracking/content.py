"""What a tracker is told of a study and of a trial: plain records, read from what is stored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from autosearch.contracts import Status, TrialRecord
from autosearch.report import read_curves
from autosearch.storage import CHOICE, StudyFolder
from autosearch.study import counts, front

CURVES = "curves.json"
"""The artifact that has the curves of a training; see `autosearch.contracts.Detector`."""

PICTURES = (".jpg", ".jpeg", ".png")

_ABOUT = ("study", "dataset", "backbone", "sampler", "pruner")
"""Sections of the spec that are shown as a study's parameters."""


@dataclass(frozen=True)
class Curve:
    """Series over one axis.

    Attributes:
        group: What they have in common, such as ``loss``.
        axis: What is counted on the axis: ``epoch``, or ``percent of training``.
        series: Steps and values by name.
    """

    group: str
    axis: str
    series: Mapping[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class TrialContent:
    """One trial that has its final status.

    Attributes:
        number: In the study.
        status: How it ended.
        params: Values as drawn, or as chosen of several settings on one fit, by name.
        values: Objectives, everything else that was measured, and seconds by part; all finite.
        curves: How the objectives stood while it trained, and the curves of its training.
        tags: Status, reason, where values come from, and what the data and weights were.
        files: Pictures and other artifacts, by file name.
        seconds: From being asked for to being told; 0 where it is not known.
    """

    number: int
    status: Status
    params: Mapping[str, Any]
    values: Mapping[str, float]
    curves: tuple[Curve, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """What people call it."""
        return f"trial {self.number}"


@dataclass(frozen=True)
class StudyContent:
    """What all trials of a study have in common.

    Attributes:
        id: The same for this study at all times, and for no other.
        name: What people call it.
        params: Keys of the spec by dotted name.
        values: Trials by status, trials on the front, and the best of every objective.
        tags: What the data and weights were, and the program.
        files: The spec, versions and hashes, and the front, by file name.
    """

    id: str
    name: str
    params: Mapping[str, Any]
    values: Mapping[str, float]
    tags: Mapping[str, str]
    files: Mapping[str, bytes]


class Tracker(Protocol):
    """Somewhere to show trials. Raises whatever it likes; every call may be made again.

    Attributes:
        name: Its key in the section ``tracking`` of a spec.
        to: Where it shows them: an address, a project or a folder.
    """

    name: str
    to: str

    def open(self, study: StudyContent) -> None:
        """Reach it, and find or make the study there."""

    def send(self, trial: TrialContent) -> str:
        """Show one trial, in the place of what was left there half sent; its name over there."""

    def close(self, study: StudyContent, status: str) -> None:
        """Say how the study stands: ``finished``, ``stopped`` or ``failed``."""


class Contents:
    """Reads what trackers are told of one study.

    Args:
        folder: The study's.
        identity: See `StudyContent.id`.
    """

    def __init__(self, folder: StudyFolder, identity: str) -> None:
        self._folder, self._id = folder, identity

    def study(self) -> StudyContent:
        """As it stands."""
        spec = self._folder.load_spec()
        plain = spec.model_dump(mode="json")
        params = dict(_flat({name: plain[name] for name in _ABOUT}))
        params |= {name: ", ".join(plain[name]) for name in ("objectives", "constraints")}
        places = (self._folder.spec_path, self._folder.meta_path, self._folder.path / "pareto.csv")
        files = {path.name: path.read_bytes() for path in places if path.is_file()}
        values = self._values(spec.objectives)
        return StudyContent(self._id, spec.study.name, params, values, self._tags(), files)

    def trial(self, record: TrialRecord) -> TrialContent:
        """One of its trials, which is told."""
        # Trackers show them in this order.
        values = {**record.values, **record.measured, **record.values}
        values |= {f"seconds/{part}": taken for part, taken in record.seconds.items()}
        if record.duration is not None:
            values["seconds/trial"] = record.duration
        own = {
            "status": str(record.status),
            "reason": record.reason,
            "taken_from": record.source,
            "cached_from": record.cached_from,
        }
        tags = {name: str(value) for name, value in own.items() if value is not None}
        found = self._folder.files.load_artifacts(record.number)
        files = {name: content for name, content in found.items() if name != CHOICE}
        return TrialContent(
            record.number,
            record.status,
            record.params,
            _finite(values),
            tuple(self._curves(record)),
            self._tags() | tags,
            files,
            record.duration or 0.0,
        )

    def _values(self, objectives: Sequence[str]) -> dict[str, float]:
        records = self._folder.trials.records()
        known = self._folder.load_meta().get("objectives") or {}
        directions = {name: known[name]["direction"] for name in objectives if name in known}
        found = {f"trials/{status}": float(number) for status, number in counts(records).items()}
        if len(directions) == len(objectives) and (best := front(records, directions)):
            found["trials/front"] = float(len(best))
            for name, direction in directions.items():
                pick = min if direction == "minimize" else max
                found[f"best/{name}"] = pick(record.values[name] for record in best)
        return found

    def _tags(self) -> dict[str, str]:
        meta = self._folder.load_meta()
        data = meta.get("data") or {}
        found = {
            "autosearch.study": self._id,
            "autosearch.version": meta.get("autosearch"),
            "data": data.get("name"),
            "category": data.get("category"),
            "data_sha256": data.get("sha256"),
        }
        for weights in meta.get("weights") or ():
            found[tag(f"weights_sha256.{weights['name']}")] = weights["sha256"]
        return {name: str(value) for name, value in found.items() if value is not None}

    def _curves(self, record: TrialRecord) -> Iterator[Curve]:
        names = {name for _, values in record.curve for name in values}
        reported = {
            name: [
                (round(100 * at), values[name]) for at, values in record.curve if name in values
            ]
            for name in sorted(names)
        }
        if shown := {name: _finite_steps(steps) for name, steps in reported.items()}:
            yield Curve("while training", "percent of training", shown)
        if found := read_curves(self._folder.files.path(record.number) / CURVES):
            for panel in found["panels"]:
                series = {
                    name: _finite_steps(zip(found["at"], numbers, strict=True))
                    for name, numbers in panel["series"].items()
                }
                yield Curve(panel["title"], found["x"], series)


def tag(name: str) -> str:
    """A name in which every tracker allows every sign."""
    return re.sub(r"[^\w./ :-]", "_", name, flags=re.ASCII)


def text_of(value: object) -> str:
    """A parameter's value as text: text itself, and all else as JSON has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, and finite."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _finite_steps(steps: Any) -> list[tuple[int, float]]:
    """Those with a finite number, one for each step, the last."""
    found = {at: float(value) for at, value in steps if value is not None and math.isfinite(value)}
    return sorted(found.items())
