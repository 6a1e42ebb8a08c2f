"""Which defects validation holds, how large they are at the size measured, and if they suffice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autosearch.data.framing import size_text
from autosearch.data.index import Index, Sample
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.spec import DatasetSpec, SyntheticSpec

FEW_IMAGES = 3
FEW_OF_A_TYPE = 5
"""Real defects of a type below which made ones stand beside them."""
FEW_PIXELS = 10


@dataclass(frozen=True)
class Defect:
    """One anomalous image of validation.

    Attributes:
        kind: Its anomaly type.
        name: The file, relative to the dataset's root.
        pixels: Anomalous pixels at the size at which it is measured; None where nobody marked any.
    """

    kind: str
    name: str
    pixels: int | None


@dataclass(frozen=True)
class Drawn:
    """The anomalous images of one type that validation holds.

    Attributes:
        images: How many.
        marked: Of how many pixels are marked.
        smallest: Fewest anomalous pixels of one of these; None if there is none.
        largest: Most of them.
        total: Of all of them together.
        first: The first file, relative to the dataset's root.
    """

    images: int
    marked: int
    smallest: int | None
    largest: int | None
    total: int
    first: str

    @classmethod
    def of(cls, defects: Iterable[Defect]) -> dict[str, Drawn]:
        """By type, in order of name."""
        by_kind: dict[str, list[Defect]] = {}
        for defect in defects:
            by_kind.setdefault(defect.kind, []).append(defect)
        return {kind: cls._summed(by_kind[kind]) for kind in sorted(by_kind)}

    @classmethod
    def _summed(cls, defects: list[Defect]) -> Drawn:
        pixels = [defect.pixels for defect in defects if defect.pixels is not None]
        ends = (min(pixels, default=None), max(pixels, default=None))
        return cls(len(defects), len(pixels), *ends, sum(pixels), defects[0].name)

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def drawn_text(drawn: Mapping[str, Mapping[str, Any]], size: str) -> str:
    """One line that says what was drawn.

    Args:
        drawn: `Drawn` of every type, as JSON has it.
        size: At which it is measured, in words.
    """
    told = "; ".join(f"{kind} {_told(one)}" for kind, one in drawn.items())
    return f"{told}; measured at {size}" if told else ""


def checked_text(
    drawn: Mapping[str, Drawn], size: str, dataset: DatasetSpec, val: Iterable[Sample]
) -> str:
    """The same with what is made beside them; arguments are also those of `beside_text`."""
    told = drawn_text({kind: one.to_plain() for kind, one in drawn.items()}, size)
    return told + beside_text(dataset, val)


def _told(one: Mapping[str, Any]) -> str:
    plural = "" if one["images"] == 1 else "s"
    parts = [f"{one['images']} image{plural}"]
    low, high = one["smallest"], one["largest"]
    if low is None:
        parts.append("without mask")
    elif low == high:
        parts.append(f"of {low} pixel{'' if low == 1 else 's'}")
    else:
        parts.append(f"of {low} to {high} pixels")
    return f"{' '.join(parts)} ({'first ' if plural else ''}{one['first']})"


def measured_text(info: Mapping[str, Any]) -> str:
    """The size at which validation is measured, for people, from what is stored of a dataset."""
    return size_text(info.get("evaluation_size", info["image_size"]))


def small_defects(
    index: Index, drawn: Mapping[str, Drawn], synthetic: int, dataset: DatasetSpec, size: str
) -> list[Note]:
    """Says so of types whose defects are too small to rank trials by, and names the ways out.

    Args:
        index: The dataset.
        drawn: Of every type.
        synthetic: Anomalous images that are made for validation.
        dataset: As `autosearch.data.settled` gives it.
        size: At which defects are measured, in words.
    """
    kind = (
        f"is the first of a type whose defects in validation have fewer than {FEW_PIXELS} pixels "
        f"in all at {size}"
    )
    key = "image_size" if dataset.evaluation_size is None else "evaluation_size"
    remedy = f"raise dataset.{key}, {_more(dataset, synthetic)}"
    return [
        Note(index.root / one.first, kind, remedy, f"{name}, {one.total} in {one.marked}")
        for name, one in drawn.items()
        if one.marked and one.total < FEW_PIXELS
    ]


def few_defects(
    index: Index, drawn: Mapping[str, Drawn], synthetic: int, dataset: DatasetSpec
) -> Note | None:
    """Says so where validation holds too few anomalous images to rank trials by.

    Arguments are those of `small_defects`.
    """
    number = sum(one.images for one in drawn.values()) + synthetic
    if number >= FEW_IMAGES:
        return None
    kind = f"validation holds fewer than {FEW_IMAGES} anomalous images"
    remedy = _more(dataset, synthetic)
    return Note(index.place, kind, remedy, f"{number} in all")


def _more(dataset: DatasetSpec, synthetic: int) -> str:
    """How to validate on more, or on other, defects."""
    real = "labelled.val" if dataset.labelled is not None else "validation.real_per_type"
    made = "have dataset.validation.synthetic make some"
    if synthetic:
        made = "raise dataset.validation.synthetic.per_image"
    return (
        f"raise dataset.{real}, {made}, or name other images in the split column of a CSV file "
        "(autosearch data convert --to csv)"
    )


def made_for(dataset: DatasetSpec, val: Iterable[Sample]) -> int:
    """Number of synthetic anomalies that are made of a validation split's normal images."""
    made = dataset.validation.synthetic
    if not isinstance(made, SyntheticSpec):
        return 0
    return len(made.kinds) * made.per_image * sum(sample.normal for sample in val)


def makes_beside(types: Iterable[str]) -> bool:
    """Whether ``dataset.validation.synthetic: auto`` makes anomalies beside the real ones.

    It does where validation holds anomalous images, and fewer than `FEW_OF_A_TYPE` of some type.

    Args:
        types: ``anomaly_type`` of each validation image.
    """
    real = Counter(kind for kind in types if kind != NORMAL)
    return bool(real) and min(real.values()) < FEW_OF_A_TYPE


def beside_text(dataset: DatasetSpec, val: Iterable[Sample]) -> str:
    """What is made beside the real anomalies, to follow other text; empty where nothing is."""
    if dataset.validation.synthetic != "auto":
        return ""
    if not makes_beside(NORMAL if one.normal else one.type for one in val):
        return ""
    few = f"fewer than {FEW_OF_A_TYPE} of some type"
    return f"; {few}, so synthetic ones are made for rwap_synthetic"
