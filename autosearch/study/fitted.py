"""What a detector is fitted on for figures of the test split, and for export."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from autosearch.data import ImageSet, SearchData, join, resize_mask
from autosearch.errors import ConfigError

Fit = Literal["all", "train"]
"""``all``: all normal images but the test split's, as exported; ``train``: as the search did."""

FIT_IMAGES = "study.fit_images"


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


def in_part(data: SearchData, most: int | None, supervised: bool) -> SearchData:
    """The same with no more images to fit on, spread evenly.

    Args:
        data: What a study was made from.
        most: Images at most; None for all.
        supervised: Whether the runner learns from anomalous images.

    Raises:
        ConfigError: It does: which of them a trial may miss is not for a number to say.
    """
    number = len(data.train)
    if most is None:
        return data
    if supervised:
        raise ConfigError(FIT_IMAGES, most, "null, since the runner learns from labelled images")
    if number <= most:
        return data
    chosen = (np.arange(most) * number // most).tolist()
    # Copied to a file of their own where they are large, as a selection would not be.
    part = join(*(data.train.part(place, place + 1) for place in chosen))
    note = (
        f"trials are fitted on {most} of {number} normal images ({FIT_IMAGES}), what is evaluated "
        "or exported on all"
    )
    notes: list[str] = [*data.info.get("notes", ()), note]  # type: ignore[misc]
    return replace(data, train=part, whole=data.train, info={**data.info, "notes": notes})


def all_normal(data: SearchData) -> ImageSet:
    """The train split, all of it, and the normal images of validation.

    Splits share neither images nor groups, so nothing of the test split comes in. Nothing is
    copied where both lie in a row.
    """
    train = data.train if data.whole is None else data.whole
    size = train.masks.shape[1:]
    return join(train, to_fit_on(data.val.select(~data.val.labels), (size[0], size[1])))


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
