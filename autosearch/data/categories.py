"""Several categories of one dataset as one: indexes joined, names of types and groups kept apart.

Every category is indexed and split on its own; what is joined has types ``category/type`` and
groups ``category/group``. Defect-free images stay of the type `NORMAL`, whatever their category.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from autosearch.data.index import Index, Sample
from autosearch.errors import ConfigError, DataError

_BETWEEN = "/"
"""Stands in no name of a category that is one of several."""


def joined(parts: Sequence[Index]) -> Index:
    """The indexes of several categories as one, its samples sorted by path.

    Raises:
        ConfigError: Two of the names stand for one and the same category.
        DataError: They are not of one dataset, or share an image.
    """
    names = [part.category for part in parts]
    for name in names:
        if names.count(name) > 1:
            allowed = f"different categories: {parts[0].root} has {name} for more than one of them"
            raise ConfigError("dataset.category", names, allowed)
    first = parts[0]
    named = tuple(_named(part) for part in parts)
    seen: dict[object, str] = {}
    for part in named:
        if part.root != first.root:
            problem = f"holds {part.category}, and {first.root} holds {first.category}"
            raise DataError(part.root, problem, "set dataset.root to a folder that holds both")
        for sample in part.samples:
            other = seen.setdefault(sample.path, part.category)
            if other != part.category:
                problem = f"is an image of both {other} and {part.category}"
                raise DataError(sample.path, problem, "list it in one of them")
    layouts = dict.fromkeys(part.layout for part in named)
    chained = itertools.chain.from_iterable
    return Index(
        first.root,
        ", ".join(names),
        tuple(sorted(chained(part.samples for part in named), key=lambda sample: sample.path)),
        tuple(sorted(chained(part.orphan_masks for part in named))),
        tuple(sorted(chained(part.empty_folders for part in named))),
        tuple(sorted(dict.fromkeys(chained(part.ignored for part in named)))),
        tuple(chained(part.faults for part in named)),
        tuple(chained(part.notes for part in named)),
        ", ".join(layouts),
        named,
    )


def prefixed(category: str, name: str) -> str:
    """A type or a group as one of a category."""
    return f"{category}{_BETWEEN}{name}"


def categories_of(groups: Iterable[str]) -> tuple[str, ...]:
    """The category of each image, by its group; only where there are several."""
    return tuple(group.partition(_BETWEEN)[0] for group in groups)


def _named(part: Index) -> Index:
    """The same with the category in the names of types and groups."""

    def own(sample: Sample) -> Sample:
        kind = sample.type if sample.normal else prefixed(part.category, sample.type)
        return replace(sample, type=kind, group=prefixed(part.category, sample.group))

    return replace(part, samples=tuple(own(sample) for sample in part.samples))
