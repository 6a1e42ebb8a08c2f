"""A study as figures see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autosearch.contracts import SCORED
from autosearch.errors import ConfigError, StudyError
from autosearch.report.info import Info, study_info
from autosearch.storage import StudyFolder

FIXED, FIRST = "fixed choice", "other first trials"
"""What trials that ``start`` lists are called: trial 0, and the rest."""


@dataclass(frozen=True)
class Shown:
    """A study that is drawn.

    Attributes:
        info: What `autosearch.report.study_info` says of it.
        folder: Its folder.
        name: In a legend.
        starts: Numbers of the trials that ``start`` lists, in its order.
        exported: Image thresholds of exports by trial: what to call each, and its value.
    """

    info: Info
    folder: StudyFolder
    name: str
    starts: Sequence[int] = ()
    exported: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    @property
    def scored(self) -> list[int]:
        """Places of the trials with values.

        Raises:
            StudyError: There is none.
        """
        kinds = {self.info["statuses"].index(str(status)) for status in SCORED}
        found = [i for i, kind in enumerate(self.info["trials"]["status"]) if kind in kinds]
        if not found:
            raise StudyError(f"{self.folder.path}: no trial has values yet, so nothing to draw")
        return found

    @property
    def marked(self) -> list[tuple[str, list[int], str]]:
        """Trials that ``start`` lists, as figures mark them: name, places, and a symbol."""
        numbers = self.info["trials"]["number"]
        fixed = [i for i, number in enumerate(numbers) if number in self.starts and not number]
        rest = [i for i, number in enumerate(numbers) if number in self.starts and number]
        found = [(FIXED, fixed, "square-open"), (FIRST, rest, "triangle-up-open")]
        return [one for one in found if one[1]]

    @property
    def objectives(self) -> list[str]:
        """Their names, in the study's order."""
        return [objective["name"] for objective in self.info["objectives"]]


def shown_studies(
    folders: Sequence[StudyFolder],
    exported: Sequence[Mapping[int, Mapping[str, float]]] = (),
    labels: Sequence[str] | None = None,
) -> list[Shown]:
    """Studies for figures, each with a name of its own.

    Args:
        folders: Theirs.
        exported: Thresholds of their exports, as `Shown` has them; none by default.
        labels: What to call them; by default the names of their folders.

    Raises:
        ConfigError: There are more or fewer labels than studies.
    """
    if labels is not None and len(labels) != len(folders):
        raise ConfigError("figure.labels", list(labels), f"one for each of {len(folders)} studies")
    infos = [study_info(folder) for folder in folders]
    names = [info["name"] for info in infos]
    usual = [i["name"] if names.count(i["name"]) == 1 else i["folder"] for i in infos]
    return [
        Shown(
            info,
            folder,
            (labels or usual)[place],
            _starts(info, folder),
            exported[place] if exported else {},
        )
        for place, (info, folder) in enumerate(zip(infos, folders, strict=True))
    ]


def only(shown: Sequence[Shown], kind: str) -> Shown:
    """The study of a figure that takes one alone.

    Raises:
        ConfigError: There are several.
    """
    if len(shown) > 1:
        raise ConfigError("figure", kind, f"of one study, not of {len(shown)}")
    return shown[0]


def _starts(info: Info, folder: StudyFolder) -> list[int]:
    """Trials that are what ``start`` lists: the first ones, unless the study began otherwise."""
    listed: list[dict[str, Any]] = folder.load_spec().configurations
    trials, params = info["trials"], info["trials"]["params"]
    return [
        number
        for place, number in enumerate(trials["number"][: len(listed)])
        if any(one and _holds(params, place, one) for one in listed)
    ]


def _holds(params: Mapping[str, Sequence[Any]], place: int, one: Mapping[str, Any]) -> bool:
    """Whether the trial at a place has the values of a configuration."""
    return all(
        name in params and params[name][place] == ("none" if value is None else value)
        for name, value in one.items()
    )
