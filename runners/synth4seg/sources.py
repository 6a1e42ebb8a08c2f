"""Sources of synthetic training images.

Algorithm 1 and section V-A: cut & paste with one kind of variation each, TrivialAugment on whole
training images, and normal images as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.data import ImageSet
from autosearch.errors import ConfigError
from autosearch.synthesis import (
    CutPasteSettings,
    Defect,
    Pasted,
    Places,
    at_input,
    cut_and_paste,
    defect_library,
    places,
)

from .poisson import load_opencv, poisson_blend
from .trivial_augment import trivial_augment

SOURCES = ("trivial_augment", "photometric", "rotation", "shear", "scale", "defect_free")
"""The six of the paper, in its order."""
COMBINED = "combined"
"""All four variations in one source, each by chance: what the paper learns locations with."""

NAMES = (*SOURCES, COMBINED)
"""All there are."""
PASTING = tuple(name for name in NAMES if name not in ("trivial_augment", "defect_free"))
"""Those that paste defects."""

_Made = tuple[Pasted, Places]
"""An image, and its pixels that count."""

Location = Callable[[Tensor], NDArray[np.bool_]]
"""From ``(B, 3, H, W)`` images to ``(B, H, W)`` bool, where defects may be pasted."""


@dataclass(frozen=True)
class SourceSettings:
    """How synthetic images are made; defaults are published.

    Attributes:
        names: The sources, of `SOURCES` and `COMBINED`.
        batch: Images of each source in a step.
        paste_per_image: Defects pasted on an image.
        targets: Which training images are pasted on; ``all`` includes anomalous ones.
        blend: ``direct``, or ``poisson``, which needs OpenCV.
        variation: Ranges of the variations; ``probability`` and ``operations`` are of
            `COMBINED`, other sources always apply their own.

    Raises:
        ConfigError: A value is not allowed.
    """

    names: tuple[str, ...] = SOURCES
    batch: int = 2
    paste_per_image: int = 1
    targets: Literal["all", "normal"] = "all"
    blend: Literal["direct", "poisson"] = "direct"
    variation: CutPasteSettings = field(default_factory=CutPasteSettings)

    def __post_init__(self) -> None:
        distinct = len(self.names) == len(set(self.names)) > 0
        for key, allowed, fits in (
            (
                "names",
                f"some of {', '.join(NAMES)}",
                distinct and set(self.names) <= set(NAMES),
            ),
            ("batch", "a positive integer", self.batch >= 1),
            ("paste_per_image", "a positive integer", self.paste_per_image >= 1),
            ("targets", "all or normal", self.targets in ("all", "normal")),
            ("blend", "direct or poisson", self.blend in ("direct", "poisson")),
        ):
            if not fits:
                raise ConfigError(key, getattr(self, key), allowed)


@dataclass(frozen=True)
class Batch:
    """What J sources made in one step, B images each.

    Attributes:
        images: ``(J, B, 3, H, W)`` float32 RGB in [0, 1].
        targets: ``(J, B, H, W)`` float32, 1 on anomalous pixels.
        areas: ``(J, B, H, W)`` float32, 1 on pasted pixels.
        originals: ``(B, 3, H, W)`` float32, the training images that were pasted on.
        valid: ``(J, B, H, W)`` bool, pixels that count; None for all.
    """

    images: Tensor
    targets: Tensor
    areas: Tensor
    originals: Tensor
    valid: Tensor | None = None

    def to(self, device: str) -> Batch:
        """The same on a device."""
        images, targets, areas, originals = (
            tensor.to(device) for tensor in (self.images, self.targets, self.areas, self.originals)
        )
        valid = None if self.valid is None else self.valid.to(device)
        return Batch(images, targets, areas, originals, valid)


class Sources:
    """Makes synthetic images of a training set.

    Args:
        train: Normal and anomalous images. Defects come from here alone.
        settings: How.

    Attributes:
        names: Of the sources, in the order of `Batch`.
        defects: The library.

    Raises:
        ConfigError: No training image shows a defect, one that has to be normal is missing, or
            OpenCV is.
    """

    def __init__(self, train: ImageSet, settings: SourceSettings) -> None:
        self.names = settings.names
        self._train, self._settings = train, settings
        masks, _ = at_input(train)
        if not masks.any():
            found = f"{int(train.labels.sum())} anomalous training images, no defect on them"
            allowed = "a larger share, so that there are defects to cut out and to learn from"
            raise ConfigError("dataset.labelled.train", found, allowed)
        self.defects = defect_library(train.pixels, masks)
        pasting = set(self.names) & set(PASTING)
        self._normal = np.flatnonzero(~train.labels)
        normal_targets = settings.targets == "normal" and pasting
        if not len(self._normal) and (normal_targets or "defect_free" in self.names):
            raise ConfigError("train", "no normal image", "some for targets or as a source")
        self._targets = self._normal if normal_targets else np.arange(len(train))
        if settings.blend == "poisson" and pasting:
            load_opencv()

    def draw(self, rng: np.random.Generator, location: Location | None = None) -> Batch:
        """Make the images of one step.

        What pastes shares images and defects; variations and places are drawn for each. A defect
        of which too little falls into the image is drawn anew (see `cut_and_paste`), one larger
        than the image covers it; pixels that do not count stay as they are. Each source draws from
        a stream of its own, so what one makes does not depend on which others there are.

        Args:
            rng: Source of every draw; not used up, but other children follow.
            location: Where defects may be pasted; None for everywhere.
        """
        size = self._settings.batch
        shared, *streams = rng.spawn(1 + len(NAMES))
        indices = _choose(self._targets, size, shared)
        chosen = shared.integers(len(self.defects), size=(size, self._settings.paste_per_image))
        originals = torch.from_numpy(self._train.pixels[indices])
        allowed = None if location is None else location(originals)
        made: list[_Made] = []
        for name in self.names:
            own = streams[NAMES.index(name)]
            if name == "defect_free":
                made += [self._as_is(index) for index in _choose(self._normal, size, own)]
            elif name == "trivial_augment":
                everything = np.arange(len(self._train))
                made += [self._augmented(index, own) for index in _choose(everything, size, own)]
            else:
                for row, index in enumerate(indices):
                    defects = [self.defects[number] for number in chosen[row]]
                    where = None if allowed is None else allowed[row]
                    made.append(self._pasted(name, index, defects, where, own))
        images, targets, areas = (
            torch.from_numpy(_stacked(parts, (len(self.names), size)))
            for parts in zip(*((m.image, m.mask, m.area) for m, _ in made), strict=True)
        )
        counted = [valid for _, valid in made if valid is not None]
        valid = torch.from_numpy(np.stack(counted)).view_as(targets) if counted else None
        return Batch(images, targets, areas, originals, valid)

    def _as_is(self, index: int) -> _Made:
        mask, valid = self._train.masks[index], self._train.valid
        made = Pasted(self._train.pixels[index], mask, np.zeros_like(mask))
        return made, None if valid is None else valid[index]

    def _augmented(self, index: int, rng: np.random.Generator) -> _Made:
        """A training image after one operation, which what counts of it goes along with."""
        before, valid = self._as_is(index)
        if valid is None:
            image, mask = trivial_augment(before.image, before.mask, rng)
        else:
            image, (mask, valid) = trivial_augment(
                before.image, np.stack([before.mask, valid]), rng
            )
        return Pasted(image, mask, before.area), valid

    def _pasted(
        self,
        name: str,
        index: int,
        defects: Sequence[Defect],
        allowed: NDArray[np.bool_] | None,
        rng: np.random.Generator,
    ) -> _Made:
        """A training image with defects, one after the other; later ones may hide earlier ones."""
        variation = self._settings.variation
        if name != COMBINED:
            variation = replace(variation, operations=(name,), probability=1.0)
        result, valid = self._as_is(index)
        allowed = places(allowed, valid)
        for defect in defects:
            before = result
            result = cut_and_paste(
                before.image, before.mask, [defect], variation, allowed, rng, valid
            )
            if self._settings.blend == "poisson":
                result = poisson_blend(before.image, result)
            result = replace(result, area=result.area | before.area)
        return result, valid


def _stacked(parts: Sequence[NDArray[Any]], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Equal arrays as one of float32, with the axis of the parts split into two."""
    return np.stack(parts).astype(np.float32, copy=False).reshape(*shape, *parts[0].shape)


def _choose(pool: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Distinct entries of a pool, unless it has too few."""
    chosen: NDArray[np.intp] = rng.choice(pool, count, replace=len(pool) < count)
    return chosen
