"""Everything that is wrong with a dataset, found in one pass, before a search is started on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autosearch.data.images import resize_mask
from autosearch.data.layouts import Index, Sample, open_index
from autosearch.data.load import read_sample
from autosearch.data.records import NORMAL
from autosearch.data.splits import Split, split_index
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec

_FEW_NORMALS = 10


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        severity: ``error`` where a search or the final evaluation refuses the dataset;
            ``warning`` where it goes on but a figure may mislead.
        path: The file or folder at fault.
        problem: What is wrong.
        remedy: What to do.
    """

    severity: Literal["error", "warning"]
    path: Path
    problem: str
    remedy: str


@dataclass(frozen=True)
class RegionAreas:
    """Areas, in pixels of the files, of the 8-connected regions of one type's masks."""

    count: int
    minimum: int
    median: float
    maximum: int


@dataclass(frozen=True)
class Report:
    """What a dataset holds and what is wrong with it.

    Attributes:
        category: Name of the category.
        root: Folder or folder of the CSV file.
        counts: Images per split and type; the only split is ``all`` where no split can be made.
        smallest: Least width and least height of any readable image, in pixels.
        largest: Greatest width and height.
        regions: Areas per anomaly type with at least one readable mask.
        problems: Errors first.
    """

    category: str
    root: Path
    counts: dict[str, dict[str, int]]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    regions: dict[str, RegionAreas]
    problems: tuple[Problem, ...]

    @property
    def usable(self) -> bool:
        """Whether a search and the final evaluation accept the dataset."""
        return all(problem.severity != "error" for problem in self.problems)


@dataclass(frozen=True)
class _Finding:
    """What one image tells: its size (0 by 0 if unreadable), hash, region areas and problems."""

    width: int
    height: int
    digest: str
    areas: NDArray[np.int64]
    problems: tuple[Problem, ...]


def check_dataset(dataset: DatasetSpec) -> Report:
    """Read every image and mask of a dataset, test images included, and report all problems.

    Raises:
        ConfigError: The category is not there.
        DataError: The root is not there, or its layout cannot be understood.
    """
    index = open_index(dataset)
    problems = list(_layout_problems(index))
    parts = {"all": index.samples}
    try:
        split = split_index(index, dataset)
        parts = {
            "train": split.train,
            "val": split.val,
            "test": split.test,
            "unused": split.unused,
        }
        problems += _split_problems(index, split, dataset)
    except DataError as error:
        problems.append(Problem("error", error.path, error.problem, error.remedy))
    except ConfigError as error:
        text = f"{error.key} is {error.value}"
        problems.append(Problem("error", index.root, text, f"set it to {error.allowed}"))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        findings = list(pool.map(lambda sample: _inspect(sample, dataset), index.samples))
    for finding in findings:
        problems += finding.problems
    problems += _duplicates(index, parts, findings)
    sizes = [(found.width, found.height) for found in findings if found.width] or [(0, 0)]
    widths, heights = zip(*sizes, strict=True)
    return Report(
        category=index.category,
        root=index.root,
        counts={name: _count(samples) for name, samples in parts.items() if samples},
        smallest=(min(widths), min(heights)),
        largest=(max(widths), max(heights)),
        regions=_region_areas(index, findings),
        problems=tuple(sorted(problems, key=lambda found: (found.severity, found.path))),
    )


def _layout_problems(index: Index) -> Iterator[Problem]:
    for path in index.orphan_masks:
        yield Problem("warning", path, "a mask without image", "add its image or remove the mask")
    for path in index.empty_folders:
        yield Problem("warning", path, "a type without images", "add images or remove the folder")


def _split_problems(index: Index, split: Split, dataset: DatasetSpec) -> Iterator[Problem]:
    """Splits that can be used, but from which little can be concluded."""
    place = index.root / index.category
    normals = sum(sample.normal for sample in split.train)
    if normals < _FEW_NORMALS:
        yield Problem(
            "warning", place, f"only {normals} normal images to train on", "add normal images"
        )
    if not split.test:
        yield Problem("error", place, "the test split is empty", "add test images or state splits")
    elif not any(sample.normal for sample in split.test):
        yield Problem("warning", place, "no normal image in the test split", "add some")
    val, test = _count(split.val), _count(split.test)
    for kind in sorted({sample.type for sample in index.samples} - {NORMAL}):
        k = dataset.validation.real_per_type
        if dataset.labelled is not None and not val.get(kind, 0):
            yield Problem(
                "warning",
                place,
                f"type {kind} has no image in the validation split",
                "add images or raise dataset.labelled.val",
            )
        elif dataset.labelled is None and val.get(kind, 0) < k:
            yield Problem(
                "warning",
                place,
                f"type {kind} has {val.get(kind, 0)} images for validation, fewer than"
                f" validation.real_per_type ({k})",
                "add images or lower dataset.validation.real_per_type",
            )
        if kind not in test:
            yield Problem(
                "warning",
                place,
                f"type {kind} has no image in the test split",
                "add images or lower dataset.validation.real_per_type, dataset.test_skip or"
                " dataset.labelled",
            )


def _inspect(sample: Sample, dataset: DatasetSpec) -> _Finding:
    none = np.zeros(0, dtype=np.int64)
    try:
        original = read_sample(sample)
    except DataError as error:
        found = Problem("error", error.path, error.problem, error.remedy)
        return _Finding(0, 0, "", none, (found,))
    height, width = original.mask.shape
    problems = []
    path = sample.mask_path or sample.path
    if original.levels > 2:
        problems.append(
            Problem(
                "warning",
                path,
                f"the mask has {original.levels} grey levels; it is read as anomalous above half"
                " of full scale",
                "save it with two values, at least to be sure of thin defects",
            )
        )
    rule = dataset.mask_rule
    if not sample.normal and not resize_mask(original.mask, dataset.image_size, rule).any():
        problems.append(
            Problem(
                "warning",
                path,
                f"all regions vanish at image_size {dataset.image_size} under mask_rule {rule}",
                "set dataset.mask_rule to any or raise dataset.image_size",
            )
        )
    areas = none
    if original.mask.any():
        regions, _ = ndimage.label(original.mask, structure=np.ones((3, 3)))
        areas = np.bincount(regions.ravel())[1:]
    return _Finding(width, height, original.digests[0], areas, tuple(problems))


def _duplicates(
    index: Index, parts: dict[str, tuple[Sample, ...]], findings: list[_Finding]
) -> Iterator[Problem]:
    """Images whose bytes equal those of an image in another split."""
    part_of = {sample.path: name for name, samples in parts.items() for sample in samples}
    first: dict[str, Path] = {}
    for sample, finding in zip(index.samples, findings, strict=True):
        if not finding.digest:
            continue
        other = first.setdefault(finding.digest, sample.path)
        if part_of[other] != part_of[sample.path]:
            yield Problem(
                "warning",
                sample.path,
                f"the same bytes as {index.relative(other)}, but in {part_of[sample.path]}"
                f" instead of {part_of[other]}",
                "remove one of them",
            )


def _region_areas(index: Index, findings: list[_Finding]) -> dict[str, RegionAreas]:
    by_type: dict[str, list[NDArray[np.int64]]] = {}
    for sample, finding in zip(index.samples, findings, strict=True):
        if finding.areas.size:
            by_type.setdefault(sample.type, []).append(finding.areas)
    regions = {}
    for kind, found in sorted(by_type.items()):
        areas = np.concatenate(found)
        regions[kind] = RegionAreas(
            areas.size, int(areas.min()), float(np.median(areas)), int(areas.max())
        )
    return regions


def _count(samples: tuple[Sample, ...]) -> dict[str, int]:
    return dict(sorted(Counter(sample.type for sample in samples).items()))
