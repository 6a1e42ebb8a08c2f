"""What to ask for of a dataset that nobody has described yet, each choice with its reason."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median

from autosearch.data.check import Report, check_dataset
from autosearch.data.decoding import shape_of
from autosearch.data.drawn import FEW_IMAGES, FEW_OF_A_TYPE
from autosearch.data.framing import canvas_size
from autosearch.data.index import Index
from autosearch.data.layouts.choose import open_index
from autosearch.data.splits import real_per_type, settled
from autosearch.data.tiles import TileGrid
from autosearch.errors import DataError
from autosearch.spec import DatasetSpec, OwnShape, SyntheticSpec, TilingSpec

_STEP = 32
"""Sides of inputs are multiples of it, which every network takes."""
_MOST_REAL = 5
"""Anomalies of a type that validation takes at most: more cost time and change little."""
_SMALL = 4
"""Pixels of the input a side below which a region is next to nothing."""
_ENOUGH = 6
"""Pixels a side that tiles are to give it."""
_MOST_LOOKED_AT = 200
"""Files of which the shape is read."""
_ALIGNED = 0.6
"""See `autosearch.data.likeness`: up to it a set is aligned."""


@dataclass(frozen=True)
class Choice:
    """A value of the section ``dataset`` and why it suits.

    Attributes:
        key: Below ``dataset``, dotted.
        value: As YAML has it.
        why: For people, in full sentences.
    """

    key: str
    value: object
    why: str


@dataclass(frozen=True)
class Advice:
    """How to search on a dataset.

    Attributes:
        dataset: With all choices made.
        choices: In the order in which they are to be told.
        report: Of the check with these choices, but before tiles.
        pixels: Whether validation can tell how well pixels are ranked: it has masks, or makes
            anomalies that have.
    """

    dataset: DatasetSpec
    choices: tuple[Choice, ...]
    report: Report
    pixels: bool


def advise(dataset: DatasetSpec, side: int) -> Advice:
    """Look at a dataset, all of its images included, and choose how it comes in and is split.

    Args:
        dataset: Root, category and layout, and what else is given, such as ``labelled``, which
            decides the split alone.
        side: Of the square with as many pixels as the largest input that is worth trying.

    Raises:
        ConfigError: The category is not there.
        DataError: The root is not there, or its layout cannot be understood.
    """
    index = open_index(dataset)
    shapes = _shapes(index)
    choices = [_size(shapes, side)]
    if dataset.labelled is None:
        choices += _validation(index, dataset)
    chosen = _with(dataset, choices)
    report = check_dataset(chosen)
    if report.usable and (pose := _pose(chosen, report)) is not None:
        choice, report = pose
        choices.append(choice)
        chosen = _with(chosen, [choice])
    tiles = _tiles(report, shapes, chosen) if report.usable else []
    kept = [choice for choice in choices if choice.key not in {other.key for other in tiles}]
    anomalous = [sample for sample in index.samples if not sample.normal]
    pixels = not anomalous or any(sample.marked for sample in anomalous)
    return Advice(_with(chosen, tiles), tuple(tiles + kept), report, pixels)


def _shapes(index: Index) -> list[tuple[int, int]]:
    """Heights and widths of normal images, evenly apart; of what cannot be read, none."""
    normal = [sample.path for sample in index.samples if sample.normal]
    step = max(1, len(normal) // _MOST_LOOKED_AT)
    found = []
    for path in normal[::step]:
        try:
            found.append(shape_of(path))
        except DataError:
            continue
    return found or [(_STEP, _STEP)]


def _size(shapes: list[tuple[int, int]], most: int) -> Choice:
    """The size of the input: as large as is worth trying, unless the files hold less."""
    own = _side_of(shapes)
    height, width = (round(median(sides)) for sides in zip(*shapes, strict=True))
    text = f"Images are about {width} x {height} px (width x height)."
    side = most
    if own < most:
        # Somewhat larger than the files, finer places are told apart; beyond, it only costs.
        least = max(own, 0.7 * most)
        side = min(most, *(_STEP * math.ceil(wanted / _STEP) for wanted in (2 * own, least)))
    canvas = canvas_size(OwnShape(side=side), shapes)
    text += f" They come in as {canvas[1]} x {canvas[0]} px, which keeps their shape"
    smallest = math.ceil(_SMALL * own / side)
    if side < most:
        larger = ", and lets a network tell finer places apart" if side > 1.1 * own else ""
        text += f"{larger}; the files hold no more, so larger inputs (up to {most}) only cost."
    elif smallest > _SMALL:
        text += f"; what is below {smallest} px a side in the files is below {_SMALL} px there."
    else:
        text += " and all that is in them."
    return Choice("image_size", {"side": side}, text)


def _validation(index: Index, dataset: DatasetSpec) -> list[Choice]:
    """How many anomalies validate, and whether some are made."""
    kinds = Counter(sample.type for sample in index.samples if not sample.normal)
    marked = any(sample.marked for sample in index.samples if not sample.normal)
    if not kinds:
        why = "No image is anomalous, so anomalies are made of normal validation images."
        hint = "All figures are of these alone: label some real ones as soon as there are any."
        made = Choice("validation.synthetic", {"kind": "both"}, f"{why} {hint}")
        return [Choice("validation.real_per_type", 0, "There are none."), made]
    fewest, total = min(kinds.values()), sum(kinds.values())
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    if not marked:
        why = f"No anomalous image ({listed}) has a mask; a third of every type validates."
        third = min(real_per_type(index, settled(index, dataset)).values())
        return [Choice("validation.real_per_type", "auto", why), _beside(third)]
    real = max(1, min(_MOST_REAL, fewest // 3))
    why = f"Of {total} anomalous images ({listed}) so many of each type drive the search; "
    why += "the others are the test split, which no search reads."
    choices = [Choice("validation.real_per_type", real, why)]
    drawn = real * len(kinds)
    if drawn < FEW_IMAGES:
        plural = "" if drawn == 1 else "s"
        why = f"{drawn} real one{plural} would rank trials by chance, so made ones stand beside."
        choices.append(Choice("validation.synthetic", {"kind": "both"}, why))
    else:
        choices.append(_beside(real))
    return choices


def _beside(real: int) -> Choice:
    """Whether anomalies are made for figures of their own, with so many real ones of a type."""
    if real < FEW_OF_A_TYPE:
        why = (
            f"Fewer than {FEW_OF_A_TYPE} of a type, so some are made as well, for figures of "
            "their own (rwap_synthetic, ap_synthetic)."
        )
        return Choice("validation.synthetic", "auto", why)
    why = "Enough real ones of every type, so none are made."
    return Choice("validation.synthetic", None, why)


def _pose(dataset: DatasetSpec, report: Report) -> tuple[Choice, Report] | None:
    """Whether objects are brought into one pose first, where that was seen to help."""
    found = report.alignment
    several = len(dataset.categories) > 1
    if found is None or found.overlap is None or found.shares[0] <= _ALIGNED or several:
        return None
    choice = Choice("preprocess", "align", "")
    other = check_dataset(_with(dataset, [choice]))
    after = other.alignment
    if not other.usable or after is None or after.shares[0] > _ALIGNED:
        return None
    why = (
        "Objects lie differently from image to image, and every image is turned and moved until "
        f"they lie alike: the same place then differs {after.shares[0]:.2f} as much as another, "
        f"instead of {found.shares[0]:.2f}."
    )
    return Choice("preprocess", "align", why), other


def _tiles(report: Report, shapes: list[tuple[int, int]], dataset: DatasetSpec) -> list[Choice]:
    """A larger canvas in tiles, where the defects of a type are next to nothing without."""
    wanted = dataset.image_size
    if not report.regions or not isinstance(wanted, OwnShape) or wanted.side is None:
        return []
    if dataset.preprocess == "align":
        return []  # Sides of files are not those of what is seen.
    side, own = wanted.side, _side_of(shapes)
    kind, area = min(
        ((kind, found.median) for kind, found in report.regions.items()), key=lambda one: one[1]
    )
    across = math.sqrt(area) * side / own
    if across >= _SMALL:
        return []
    canvas = min(round(own), math.ceil(side * _ENOUGH / across))
    size = _STEP * math.ceil(canvas / _STEP)
    grid = TileGrid.over(canvas_size(OwnShape(side=size), shapes), side, 0.25)
    if len(grid) == 1:
        return []
    why = (
        f"Half of all regions of {kind} have no more than {area:.0f} px in the files, and "
        f"{across * across:.1f} at {side} px a side: too small. So images come in larger, in "
        f"{len(grid)} overlapping tiles of {side} px, and a trial costs about as many times more."
    )
    return [
        Choice("image_size", {"side": size}, why),
        Choice("tiling", {"size": side}, "Of these a detector sees one at a time."),
    ]


def _side_of(shapes: list[tuple[int, int]]) -> float:
    """Side of the square with as many pixels as half of the files exceed."""
    return median(math.sqrt(height * width) for height, width in shapes)


def _with(dataset: DatasetSpec, choices: list[Choice]) -> DatasetSpec:
    """A dataset with some choices made."""
    own = {choice.key: choice.value for choice in choices}
    sections = dataset.validation.model_dump(by_alias=True)
    sections |= {k.partition(".")[2]: v for k, v in own.items() if k.startswith("validation.")}
    if isinstance(made := sections["synthetic"], dict):
        sections["synthetic"] = SyntheticSpec(**made)
    changed: dict[str, object] = {"validation": type(dataset.validation)(**sections)}
    if isinstance(size := own.get("image_size"), dict):
        changed["image_size"] = OwnShape(**size)
    if isinstance(tiling := own.get("tiling"), dict):
        changed["tiling"] = TilingSpec(**tiling)
    if "preprocess" in own:
        changed["preprocess"] = own["preprocess"]
    return dataset.model_copy(update=changed)
