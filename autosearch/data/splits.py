"""Which images train, which drive the search, which are kept for the very end.

The rule is AutoPatch's ("Neural Architecture Search for Visual Anomaly Segmentation"), extended
from images to groups: images of one physical object never cross partitions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from autosearch.data.index import Index, Sample, SplitName
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec, LabelledSpec


@dataclass(frozen=True)
class Split:
    """A partition of an index, each part sorted by path.

    Attributes:
        train: Normal images to fit on, and with ``dataset.labelled`` anomalous ones.
        val: Normal and anomalous images that drive the search.
        test: Images for the final figures only.
        unused: Anomalous images between ``real_per_type`` and ``test_skip``, left out so
            that searches with different ``real_per_type`` share one test set.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    unused: tuple[Sample, ...]


def split_index(index: Index, dataset: DatasetSpec) -> Split:
    """Partition an index; depends on nothing but the sorted paths, groups and stated splits.

    With k = ``validation.real_per_type`` and n = the number of normal images stated to be test
    ones (``test/good``): validation takes the first n of the remaining normal images and the
    first k anomalous ones of every type, training the rest of the normal images, and test all
    stated normal images and the anomalous ones from position ``test_skip`` (default k) on. Where
    no normal test image is stated, n is a fifth of the normal images and test takes the next n.
    ``validation.normal`` replaces n. With ``labelled``, the anomalous images of every type go to
    train, validation and test by their shares instead, spread evenly over the sorted paths.

    A group moves as a whole, to where its first image of any type would go; counts are then met
    or exceeded. Stated splits are obeyed, also for the unstated images of a stated group.

    Raises:
        ConfigError: ``test_skip`` is below k, or ``validation.normal`` leaves nothing to train on.
        DataError: A group stands in two stated splits, an anomalous image in train, or a part
            has no images of the kind it needs.
    """
    k, skip = dataset.validation.real_per_type, first_test_position(dataset)
    if skip < k:
        raise ConfigError(
            "dataset.test_skip", skip, f"at least dataset.validation.real_per_type ({k}), or null"
        )
    parts: dict[str, list[Sample]] = {"train": [], "val": [], "test": [], "unused": []}
    normal, anomalous = [], []
    stated = _stated_groups(index)
    for name, members in _groups(index.samples).items():
        if name in stated:
            parts[stated[name]] += members
        elif all(sample.normal for sample in members):
            normal.append(members)
        else:
            anomalous.append(members)
    in_test = _normals(parts["test"])
    fallback = in_test or max(1, sum(map(len, normal)) // 5)
    wanted = dataset.validation.normal or fallback
    if dataset.labelled is None:
        _place_anomalous(anomalous, parts, k, skip)
    else:
        _share_anomalous(anomalous, parts, dataset.labelled)
    _place_normal(normal, parts, wanted, 0 if in_test else wanted)
    _check_parts(index, dataset, parts, wanted)
    train, val, test, unused = (
        tuple(sorted(part, key=lambda sample: sample.path)) for part in parts.values()
    )
    return Split(train, val, test, unused)


def first_test_position(dataset: DatasetSpec) -> int:
    """Position within its type from which an anomalous image is a test image."""
    k = dataset.validation.real_per_type
    return k if dataset.test_skip is None else dataset.test_skip


def _groups(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Members of each group, in the order of the groups' first images."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    return groups


def _stated_groups(index: Index) -> dict[str, SplitName]:
    """Split of every group of which at least one image states one."""
    stated: dict[str, SplitName] = {}
    for sample in index.samples:
        if sample.split is None:
            continue
        first = stated.setdefault(sample.group, sample.split)
        if first != sample.split:
            raise DataError(
                sample.path,
                f"group {sample.group!r} is in the splits {first} and {sample.split}",
                "put all images of one object into one split",
            )
    return stated


def _place_anomalous(
    groups: list[list[Sample]], parts: dict[str, list[Sample]], k: int, skip: int
) -> None:
    """Append groups with an anomalous image to val, unused or test, by position within type."""
    before = Counter(sample.type for sample in parts["val"])
    for members in groups:
        kinds = Counter(sample.type for sample in members if not sample.normal)
        position = min(before[kind] for kind in kinds)
        parts["val" if position < k else "unused" if position < skip else "test"] += members
        before += kinds


def _share_anomalous(
    groups: list[list[Sample]], parts: dict[str, list[Sample]], labelled: LabelledSpec
) -> None:
    """Append each group with an anomalous image to the part that lacks most of its first type."""
    shares = {"train": labelled.train, "val": labelled.val}
    shares["test"] = 1 - labelled.train - labelled.val
    held = {part: Counter(sample.type for sample in parts[part]) for part in shares}
    for members in groups:
        kinds = Counter(sample.type for sample in members if not sample.normal)
        kind = min(kinds)
        total = kinds[kind] + sum(held[part][kind] for part in shares)

        def lack(part: str, kind: str = kind, total: int = total) -> float:
            return shares[part] * total - held[part][kind]

        chosen = max(shares, key=lack)
        parts[chosen] += members
        held[chosen] += kinds


def _place_normal(
    groups: list[list[Sample]], parts: dict[str, list[Sample]], for_val: int, for_test: int
) -> None:
    """Append normal groups to val and test until they hold enough, and the rest to train."""
    for members in groups:
        if _normals(parts["val"]) < for_val:
            parts["val"] += members
        elif _normals(parts["test"]) < for_test:
            parts["test"] += members
        else:
            parts["train"] += members


def _normals(samples: Iterable[Sample]) -> int:
    return sum(sample.normal for sample in samples)


def _check_parts(
    index: Index, dataset: DatasetSpec, parts: dict[str, list[Sample]], wanted: int
) -> None:
    """Refuse a split that cannot be searched on."""
    for sample in parts["train"]:
        if not sample.normal and dataset.labelled is None:
            raise DataError(
                sample.path,
                "an anomalous image is in the train split",
                "state val or test for it, or set dataset.labelled to learn from some",
            )
    place = index.root / index.category
    if not _normals(parts["train"]):
        if dataset.validation.normal is not None:
            raise ConfigError(
                "dataset.validation.normal", wanted, "a number that leaves normal images to train"
            )
        raise DataError(
            place,
            f"{wanted} normal images are wanted for validation, and none is left to train on",
            "set dataset.validation.normal to a smaller number or add normal images",
        )
    if not _normals(parts["val"]):
        raise DataError(
            place, "validation holds no normal image", "state val for some normal images"
        )
    if dataset.validation.synthetic is None and _normals(parts["val"]) == len(parts["val"]):
        raise DataError(
            place,
            "validation holds no anomalous image",
            "add anomalous images with masks, or let dataset.validation.synthetic make some",
        )
