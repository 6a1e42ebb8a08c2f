"""What a detector is fitted on for figures of the test split, and for export."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from autosearch.data import ImageSet, SearchData, join, resize_mask
from autosearch.errors import ConfigError

Fit = Literal["all", "train"]
"""``all``: all normal images but the test split's, as exported; ``train``: as the search did."""


def fit_of(asked: str, supervised: bool) -> Fit:
    """What a detector is fitted on.

    A runner that learns from anomalous images selects on validation, and must not also learn from
    it: it is always fitted on the train split.

    Args:
        asked: What is asked for.
        supervised: Whether the runner learns from anomalous images.

    Raises:
        ConfigError: That is neither of both.
    """
    if asked not in get_args(Fit):
        raise ConfigError("fit", asked, "all or train")
    return "train" if supervised or asked == "train" else "all"


def all_normal(data: SearchData) -> ImageSet:
    """The train split and the normal images of validation: all normal images but test ones.

    Splits share neither images nor groups, so nothing of the test split comes in. Nothing is
    copied where both lie in a row.
    """
    size = data.train.masks.shape[1:]
    return join(data.train, to_fit_on(data.val.select(~data.val.labels), (size[0], size[1])))


def to_fit_on(normal: ImageSet, size: tuple[int, int]) -> ImageSet:
    """Normal images with masks of the size that images to fit on have.

    Args:
        normal: They may be measured at another size than they are trained on.
        size: Height and width of the masks.
    """
    if normal.masks.shape[1:] == size:
        return normal
    masks, valid = np.zeros((len(normal), *size), dtype=bool), normal.valid
    if valid is not None:
        valid = np.array([resize_mask(mask, size) for mask in valid])
    return replace(normal, masks=masks, valid=valid, regions=None, place=None)
