"""The text of a first spec: every choice on a line of its own, and before it the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.schema import modeline
from autosearch.contracts import Objective, registry
from autosearch.spec import StudySpec, comment_lines, yaml_line, yaml_sections

if TYPE_CHECKING:
    from autosearch.data import Advice, Report
    from autosearch.study import Pace

_MOST_TRIALS, _FEW = 1000, 30
_WORKED_OUT = {"study", "objectives", "dataset"}
"""Sections that are written anew; all others are those of the space."""


@dataclass(frozen=True)
class Draft:
    """What a first spec is made of.

    Attributes:
        space: Name of the space.
        path: Its file.
        its: What the file says.
        advice: How to search on the dataset.
        kept: Keys of the section ``dataset`` that the space needs as they are.
        name: Of the study.
        budget: As it was written, such as ``10m``.
        seconds: The same.
    """

    space: str
    path: Path
    its: StudySpec
    advice: Advice
    kept: dict[str, Any]
    name: str
    budget: str
    seconds: float

    def trials(self, pace: Pace | None) -> int:
        """How many fit the budget, or as many as the space asks for where that is not known."""
        fitting = None if pace is None else pace.fitting(self.seconds)
        return self.its.study.trials if fitting is None else min(_MOST_TRIALS, _rounded(fitting))

    def text(self, pace: Pace | None) -> str:
        """The spec as YAML."""
        return "\n".join([*self._head(pace), *self._dataset(), *self._rest_head()]) + self._rest()

    def _head(self, pace: Pace | None) -> Iterator[str]:
        trials = self.trials(pace)
        yield modeline(registry.schema_path())
        yield from comment_lines(
            f"A search on {self.advice.report.category}, written by autosearch init from what it "
            "saw of the images. Change what you like; docs/spec.md explains every key."
        )
        yield "study:"
        yield yaml_line("name", self.name, 2)
        yield yaml_line("runner", self.its.study.runner, 2)
        yield yaml_line("seed", self.its.study.seed, 2)
        yield from comment_lines(pace_text(pace, trials), 2)
        yield yaml_line("trials", trials, 2)
        yield from comment_lines("After so long no trial begins; autosearch resume goes on.", 2)
        yield yaml_line("timeout", self.budget, 2)
        names = self._objectives()
        known = registry.objectives()
        if not self.advice.pixels:
            yield from comment_lines("No anomalous image has a mask, so images are ranked whole.")
        for name in names:
            yield from comment_lines(_objective_text(known[name]))
        yield yaml_line("objectives", names)

    def _objectives(self) -> list[str]:
        """Those of the space; where no mask tells of pixels, of images instead."""
        if self.advice.pixels:
            return list(self.its.objectives)
        known = registry.objectives()
        return list(
            dict.fromkeys("image_auroc" if known[n].pixels else n for n in self.its.objectives)
        )

    def _dataset(self) -> Iterator[str]:
        dataset = self.advice.dataset
        yield "dataset:"
        yield from comment_lines(seen_text(self.advice.report), 2)
        yield yaml_line("root", dataset.root, 2)
        one, *others = dataset.categories
        yield yaml_line("category", [one, *others] if others else one, 2)
        for choice in self.advice.choices:
            if "." not in choice.key:
                yield from comment_lines(choice.why, 2)
                yield yaml_line(choice.key, choice.value, 2)
        nested = [choice for choice in self.advice.choices if "." in choice.key]
        if nested:
            yield "  validation:"
        for choice in nested:
            yield from comment_lines(choice.why, 4)
            yield yaml_line(choice.key.partition(".")[2], choice.value, 4)
        for key, value in self.kept.items():
            yield from comment_lines(f"As the space {self.space} has it.", 2)
            yield yaml_line(key, value, 2)

    def _rest_head(self) -> Iterator[str]:
        yield from comment_lines(f"From here on it is the space {self.space}, as installed.")
        aligned = self.advice.report.alignment
        if aligned is not None and any(
            p.name == "window" for p in self.its.parsed_space.parameters
        ):
            first = ", so they are tried first" if aligned.windows and self.its.windows else ""
            yield from comment_lines(f"Its windows: these images are {aligned.text}{first}.")

    def _rest(self) -> str:
        """All other sections, as the file of the space has them."""
        names = self.its.model_fields_set - _WORKED_OUT
        return "\n" + yaml_sections(self.path.read_text(encoding="utf-8"), names)


def pace_text(pace: Pace | None, trials: int) -> str:
    """What is known of the time that trials take, in a sentence."""
    if pace is None:
        return f"{trials} trials, as in the space; how long one takes here was not measured."
    total = pace.total(trials)
    if total is None:
        return f"{trials} trials, as in the space; none of those tried ended: {pace.problem}."
    low, high = min(pace.seconds), max(pace.seconds)
    number = len(pace.seconds)
    took = f"{number} trials took {low:.2g} to {high:.2g} s here"
    if number == 1:
        took = f"One trial took {low:.2g} s here"
    lanes = "one runs at a time" if pace.at_a_time == 1 else f"{pace.at_a_time} run at a time"
    text = f"{took}, and {lanes}: {trials} take about {time_text(total)}."
    return f"{text} That is little for a search: more time finds more." if trials < _FEW else text


def seen_text(report: Report) -> str:
    """What a dataset holds, and how it is split, in a sentence or two."""
    parts = []
    for split, types in report.counts.items():
        told = " + ".join(f"{number} {kind}" for kind, number in types.items())
        parts.append(f"{split} {told}")
    (w0, h0), (w1, h1) = report.smallest, report.largest
    size = f"{w0} x {h0} px" if report.smallest == report.largest else (
        f"{w0} x {h0} to {w1} x {h1} px"
    )  # fmt: skip
    return f"Layout {report.layout}; images of {size} (width x height). Split: {', '.join(parts)}."


def time_text(seconds: float) -> str:
    """An estimated time; no more figures than it deserves."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1.0, float(f'{seconds:.1g}')):.0f} s"


def _objective_text(objective: Objective) -> str:
    better = "lower" if objective.direction == "minimize" else "higher"
    return f"{objective.name}: {objective.help}; {better} is better."


def _rounded(number: int) -> int:
    """Down to two figures."""
    step: int = 10 ** max(0, len(str(number)) - 2)
    return max(1, number // step * step)
