"""What a split of a dataset rests on, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from autosearch.data.index import Index, Sample
from autosearch.data.notes import Note
from autosearch.spec import DatasetSpec, SyntheticSpec


def split_rule(index: Index, dataset: DatasetSpec) -> str:
    """How anomalous images were split.

    Args:
        index: The images.
        dataset: As `autosearch.data.settled` gives it.
    """
    labelled, k = dataset.labelled, dataset.validation.real_per_type
    if labelled is not None:
        shares = f"{labelled.train:.0%} for training, {labelled.val:.0%} validation"
        return f"of each anomaly type {shares}"
    if none_anomalous(index):
        return "no anomalous image"
    if k == "auto":
        rule = "a third of each anomaly type for validation, since no anomalous image has a mask"
    else:
        rule = f"{k} per anomaly type for validation"
    skip = dataset.test_skip
    return rule if skip is None or skip == k else f"{rule}; test from number {skip + 1} on"


def normals_text(train: Iterable[Sample], val: Iterable[Sample]) -> str:
    """How many of the normal images that are not test ones validate."""
    held, rest = (sum(sample.normal for sample in part) for part in (val, train))
    return f"{held} of {held + rest} normal images validate"


def none_anomalous(index: Index) -> bool:
    """Whether all images are normal."""
    return all(sample.normal for sample in index.samples)


def synthetic_alone(index: Index, dataset: DatasetSpec) -> Note | None:
    """Says so where there is no anomalous image, and validation uses synthetic anomalies.

    Args:
        index: The images.
        dataset: As `autosearch.data.settled` gives it.
    """
    made = dataset.validation.synthetic
    if not isinstance(made, SyntheticSpec) or not none_anomalous(index):
        return None
    kinds = " and ".join(made.kinds)
    kind = f"no anomalous image: validation uses synthetic anomalies ({kinds})"
    return Note(index.place, kind, "figures are of these alone")


def unmarked_notes(index: Index, samples: Iterable[Sample]) -> list[Note]:
    """Anomalous images without mask, where others of the dataset have one.

    Args:
        index: The dataset.
        samples: Those of its images that are looked at.
    """
    if not any(sample.marked and not sample.normal for sample in index.samples):
        return []
    unmarked = [sample for sample in samples if not sample.normal and not sample.marked]
    remedy = "its pixels take no part in pixel figures; add ground_truth/… to count them"
    kinds = Counter(sample.type for sample in unmarked)
    told = " + ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return [Note(sample.path, f"has no mask ({told})", remedy) for sample in unmarked]


def orphan_notes(index: Index) -> list[Note]:
    """Masks of no image, where anomalous images have none: they may be theirs."""
    if all(sample.normal or sample.marked for sample in index.samples):
        return []
    kind = "is a mask of no image, while anomalous images have none"
    remedy = "add its image or remove the mask"
    return [Note(path, kind, remedy) for path in index.orphan_masks]
