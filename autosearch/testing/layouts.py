"""What every dataset layout must hold: an index that agrees with its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest

from autosearch.data import Index, read_image, read_mask, split_index
from autosearch.spec import DatasetSpec


class LayoutSuite:
    """Checks of the `Index` that a layout makes of a small dataset without faults.

    Give the fixtures ``index``, as of `autosearch.data.open_index`, and ``counts``, the expected
    number of images by type. The split rule's settings are a fixture to override.

    Attributes:
        anomalous: Whether the dataset has anomalous images.
        marked: Whether their anomalous pixels are marked.
    """

    anomalous: ClassVar[bool] = True
    marked: ClassVar[bool] = True

    @pytest.fixture
    def dataset(self) -> DatasetSpec:
        """How the dataset is split; nothing else of it is read."""
        return DatasetSpec()

    def test_every_image_is_found_once(self, index: Index, counts: Mapping[str, int]) -> None:
        """All of every type, in the order of their paths."""
        paths = [sample.path for sample in index.samples]
        assert paths == sorted(set(paths))
        assert Counter(sample.type for sample in index.samples) == counts
        assert index.category

    def test_types_tell_normal_images_from_anomalous_ones(self, index: Index) -> None:
        """Types are printable names, `NORMAL` among them."""
        for sample in index.samples:
            assert sample.type == sample.type.strip() != "" and sample.type.isprintable()
        assert {sample.normal for sample in index.samples} == {True, not self.anomalous}

    def test_files_can_be_read(self, index: Index) -> None:
        """Images are RGB in [0, 1]."""
        for sample in index.samples:
            assert sample.path.is_file(), sample.path
            image = read_image(sample.path)
            assert image.ndim == 3 and len(image) == 3, sample.path
            assert image.min() >= 0 and image.max() <= 1, sample.path

    def test_masks_mark_the_defects_of_their_images(self, index: Index) -> None:
        """Every anomalous image has masks of its size that mark some of it, no other has.

        Outlines are drawn instead, where a tool for labelling wrote them down.
        """
        for sample in index.samples:
            if not sample.marked:
                assert sample.normal or not self.marked, sample.path
                continue
            height, width = read_image(sample.path).shape[1:]
            masks = [read_mask(path).mask for path in sample.masks]
            if sample.outlines is not None:
                assert sample.outlines.file.is_file(), sample.path
                masks.append(sample.outlines.mask(sample.path, width, height)[0])
            for mask in masks:
                assert mask.shape == (height, width), sample.path
            assert np.any(masks) != sample.normal, sample.path

    def test_leftovers_belong_to_no_image(self, index: Index) -> None:
        """No mask is taken for an image, and what is said to be left over is."""
        masks = {path for sample in index.samples for path in sample.masks}
        images = {sample.path for sample in index.samples}
        assert not {*masks, *index.orphan_masks, *index.ignored} & images and not index.faults
        assert not masks & set(index.orphan_masks)
        assert all(path.is_file() for path in index.orphan_masks)
        assert all(path.is_dir() for path in index.empty_folders)

    def test_names_in_records_are_relative_and_unique(self, index: Index) -> None:
        """They do not tell where the dataset lies on this machine."""
        names = [index.relative(sample.path) for sample in index.samples]
        assert len(set(names)) == len(names)
        for name, sample in zip(names, index.samples, strict=True):
            assert "\\" not in name and index.root / name == sample.path
            assert not name.startswith(("/", "../"))

    def test_groups_stay_together(self, index: Index) -> None:
        """Images of one object are never stated to be in two splits."""
        stated: dict[str, str] = {}
        for sample in index.samples:
            assert sample.group
            if sample.split is not None:
                assert sample.split in ("train", "val", "test"), sample.path
                assert stated.setdefault(sample.group, sample.split) == sample.split, sample.path

    def test_splits_are_disjoint(self, index: Index, dataset: DatasetSpec) -> None:
        """Every image is in one part, every group as well, and stated splits are obeyed."""
        split = split_index(index, dataset)
        parts = {"train": split.train, "val": split.val, "test": split.test}
        everywhere = [sample for part in (*parts.values(), split.unused) for sample in part]
        assert sorted(sample.path for sample in everywhere) == [s.path for s in index.samples]
        for first, second in combinations((*parts.values(), split.unused), 2):
            assert not {sample.group for sample in first} & {sample.group for sample in second}
        for name, part in parts.items():
            assert all(sample.split in (None, name) for sample in part)
        assert {sample.normal for sample in split.val} == {True, not self.anomalous}
        assert any(sample.normal for sample in split.train)
