"""Everything that is wrong with a dataset, found in one pass, before a search is started on it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autosearch.data.drawn import Defect, Drawn, checked_text, few_defects, made_for, small_defects
from autosearch.data.framing import Framing, View, size_text
from autosearch.data.framings import Framings, framings_of, view_notes
from autosearch.data.index import Index, Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.likeness import Likeness, Seen, compared_of, likeness
from autosearch.data.notes import Note
from autosearch.data.originals import flat_notes, read_sample
from autosearch.data.records import NORMAL
from autosearch.data.regions import label_regions
from autosearch.data.split_words import synthetic_alone, unmarked_notes
from autosearch.data.splits import Split, real_per_type, settled, split_index
from autosearch.data.tiles import grid_of, without_effect
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec

_FEW_NORMALS = 10
_FEW_PIXELS = 4
_PARTICULAR = re.compile(r"\S*\d\S*|\S+\.\w{2,5}\b")
"""Words that differ between problems of one kind: figures and names of files."""


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        severity: ``error`` where a search or the final evaluation refuses the dataset;
            ``warning`` where it goes on but a figure may mislead.
        path: The file or folder at fault.
        problem: What is wrong.
        remedy: What to do.
        kind: In the same words for all problems alike.
    """

    severity: Literal["error", "warning"]
    path: Path
    problem: str
    remedy: str
    kind: str = ""

    @classmethod
    def of_error(cls, error: DataError) -> Problem:
        """What a search would be refused for."""
        kind = _PARTICULAR.sub("…", error.problem)
        return cls("error", error.path, error.problem, error.remedy, kind)

    @classmethod
    def of_note(cls, note: Note) -> Problem:
        """What a search would assume."""
        return cls("warning", note.path, note.text, note.remedy, note.kind)


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
        category: Name of the category, or those of several.
        root: Folder or folder of the CSV file.
        counts: Images per split and type; the only split is ``all`` where no split can be made.
        smallest: Least width and least height of any readable image, in pixels.
        largest: Greatest width and height.
        regions: Areas per anomaly type with at least one readable mask.
        problems: Errors first.
        objects: What came of looking for objects, for people; empty where none were looked for.
        tiles: How images are cut into tiles, for people; empty where they are not.
        layout: Name of the layout that it was read by.
        defects: Which anomalous images validate, for people; empty where none do.
        alignment: How alike normal training images are in the same places, and which windows are
            worth trying; None for less than two images.
    """

    category: str
    root: Path
    counts: dict[str, dict[str, int]]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    regions: dict[str, RegionAreas]
    problems: tuple[Problem, ...]
    objects: str = ""
    tiles: str = ""
    layout: str = ""
    defects: str = ""
    alignment: Likeness | None = None

    @property
    def usable(self) -> bool:
        """Whether a search and the final evaluation accept the dataset."""
        return all(problem.severity != "error" for problem in self.problems)

    @property
    def groups(self) -> tuple[tuple[Problem, ...], ...]:
        """Problems of one kind and remedy together, in the order of the first of each."""
        found: dict[tuple[str, ...], list[Problem]] = {}
        for problem in self.problems:
            kind = problem.kind or problem.problem
            found.setdefault((problem.severity, kind, problem.remedy), []).append(problem)
        return tuple(map(tuple, found.values()))


@dataclass(frozen=True)
class _Finding:
    """What one image tells: its size (0 by 0 if unreadable), hash, region areas and problems.

    ``pixels`` are those that are anomalous where it is measured, None where nobody marked any;
    ``small`` is there for images that are compared with others.
    """

    width: int = 0
    height: int = 0
    digest: str = ""
    areas: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    problems: tuple[Problem, ...] = ()
    flat: bool = False
    pixels: int | None = None
    small: Seen | None = None


def check_dataset(dataset: DatasetSpec) -> Report:
    """Read every image and mask of a dataset, test images included, and report all problems.

    Raises:
        ConfigError: The category is not there.
        DataError: The root is not there, or its layout cannot be understood.
    """
    index = open_index(dataset)
    dataset = settled(index, dataset)
    problems = list(_layout_problems(index))
    problems += map(Problem.of_note, unmarked_notes(index, index.samples))
    if alone := synthetic_alone(index, dataset):
        problems.append(Problem.of_note(alone))
    parts = {"all": index.samples}
    try:
        split = split_index(index, dataset)
        parts = {
            "train": split.train,
            "val": split.val,
            "test": split.test,
            "unused": split.unused,
        }
        for part in index.each:
            problems += _split_problems(part, split.within(part), dataset)
    except DataError as error:
        problems.append(Problem.of_error(error))
    except ConfigError as error:
        text = f"{error.key} is {error.value}"
        problems.append(Problem("error", index.root, text, f"set it to {error.allowed}"))
    framings, faults = _framings(parts.get("train", index.samples), dataset, index)
    problems += faults
    framing, canvas = framings.measured, framings.input.size
    grid = grid_of(dataset.tiling, canvas)
    if idle := without_effect(dataset.tiling, canvas):
        problems.append(Problem("warning", index.place, *idle))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        compared = compared_of(parts.get("train", index.samples))
        findings = list(
            pool.map(
                lambda sample: _inspect(sample, dataset, framing, sample.path in compared),
                index.samples,
            )
        )
    for finding in findings:
        problems += finding.problems
    flat = [s.path for s, found in zip(index.samples, findings, strict=True) if found.flat]
    problems += map(Problem.of_note, flat_notes(flat, len(findings)))
    problems += _duplicates(index, parts, findings)
    drawn = _drawn(index, parts, findings)
    size, made = size_text(framing.size), made_for(dataset, parts.get("val", ()))
    if "val" in parts and (few := few_defects(index, drawn, made, dataset)):
        problems.append(Problem.of_note(few))
    problems += map(Problem.of_note, small_defects(index, drawn, made, dataset, size))
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
        objects=framings.found or "",
        tiles=grid.text if grid else "",
        layout=index.layout,
        defects=checked_text(drawn, size, dataset, parts.get("val", ())),
        alignment=likeness([f.small for f in findings if f.small], framing.preprocess),
    )


def _drawn(
    index: Index, parts: dict[str, tuple[Sample, ...]], findings: list[_Finding]
) -> dict[str, Drawn]:
    """What validation holds of every anomaly type."""
    chosen = {sample.path for sample in parts.get("val", ()) if not sample.normal}
    return Drawn.of(
        Defect(sample.type, index.relative(sample.path), found.pixels)
        for sample, found in zip(index.samples, findings, strict=True)
        if sample.path in chosen
    )


def _framings(
    train: tuple[Sample, ...], dataset: DatasetSpec, index: Index
) -> tuple[Framings, list[Problem]]:
    """How images come in, and what is wrong with how they do."""
    place = index.place
    try:
        # What cannot be read is a finding of its own.
        framings = framings_of(dataset, train, lenient=True)
    except ConfigError as error:
        text = f"{error.key} is {error.value}"
        fault = Problem("error", place, text, f"set it to {error.allowed}")
        plain = dataset.model_copy(update={"preprocess": "none", "region_of_interest": None})
        return framings_of(plain, train, lenient=True), [fault]
    remark = framings.remark
    return framings, [] if remark is None else [Problem("warning", place, *remark)]


def _layout_problems(index: Index) -> Iterator[Problem]:
    yield from map(Problem.of_error, index.faults)
    yield from map(Problem.of_note, index.doubts())
    for path in index.orphan_masks:
        yield Problem("warning", path, "a mask without image", "add its image or remove the mask")
    for path in index.empty_folders:
        yield Problem("warning", path, "a type without images", "add images or remove the folder")


def _split_problems(index: Index, split: Split, dataset: DatasetSpec) -> Iterator[Problem]:
    """Splits that can be used, but from which little can be concluded."""
    place = index.place
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
    wanted = real_per_type(index, dataset)
    for kind in sorted({sample.type for sample in index.samples} - {NORMAL}):
        k = wanted[kind]
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


def _inspect(
    sample: Sample, dataset: DatasetSpec, framing: Framing, compared: bool = False
) -> _Finding:
    try:
        original = read_sample(sample, dataset)
    except DataError as error:
        return _Finding(problems=(Problem.of_error(error),))
    height, width = original.mask.shape
    problems = list(map(Problem.of_note, original.notes))
    try:
        view = framing.view(original.image, sample.path, original.foreground)
    except DataError as error:
        problems.append(Problem.of_error(error))
        return _Finding(width, height, original.digests[0], problems=tuple(problems))
    problems += map(Problem.of_note, view_notes(sample.path, original.mask, view, dataset))
    areas = np.zeros(0, dtype=np.int64)
    pixels = None if original.unmarked else 0
    if original.mask.any():
        pixels = None
        if view.seen(original.mask):
            path = sample.masks[0] if sample.masks else sample.path
            found, pixels = _resized(path, original.mask, view, dataset, framing)
            problems += found
        areas = np.bincount(label_regions(original.mask).ravel())[1:]
    small = Seen.of(original.image, view, framing) if compared else None
    told = tuple(problems)
    return _Finding(width, height, original.digests[0], areas, told, original.flat, pixels, small)


def _resized(
    path: Path, mask: NDArray[np.bool_], view: View, dataset: DatasetSpec, framing: Framing
) -> tuple[list[Problem], int]:
    """Regions of which resizing leaves next to nothing, and how many pixels it leaves of all."""
    size, rule = size_text(framing.size), dataset.mask_rule
    if dataset.regions == "source":
        labels, lost = framing.regions(mask, view, rule)
        return list(_region_problems(path, labels, lost, size)), int((labels > 0).sum())
    if left := int(framing.mask(mask, view, rule).sum()):
        return [], left
    text = f"all regions vanish at {size} under mask_rule {rule}"
    remedy = "set dataset.regions to source, or raise dataset.image_size"
    return [Problem("warning", path, text, remedy)], 0


def _region_problems(
    path: Path, labels: NDArray[np.int32], lost: int, size: str
) -> Iterator[Problem]:
    _, areas = np.unique(labels[labels > 0], return_counts=True)
    if tiny := int((areas < _FEW_PIXELS).sum()):
        what = f"regions have fewer than {_FEW_PIXELS} pixels at {size}"
        yield Problem(
            "warning",
            path,
            f"{tiny} of {areas.size + lost} {what}",
            "raise dataset.image_size: rwAP counts each as much as any other",
            what,
        )
    if lost:
        what = f"regions share their pixels with others at {size}"
        text = f"{lost} of {areas.size + lost} {what}"
        yield Problem("warning", path, text, "raise dataset.image_size to tell them apart", what)


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
                "the same bytes as an image in another split",
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
