"""Cut & paste: defects, or pieces of normal images, transformed and pasted elsewhere.

Real defects as in "Learning Defect Data Synthesis for Defect Segmentation using Bi-level
Optimization" (Algorithm 1, Table II); pieces of normal images after CutPaste (Li et al., CVPR
2021). Pasting is direct: a pixel comes from the defect or from the image, never from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autosearch.errors import ConfigError
from autosearch.synthesis.placing import Places

MAX_TRIES = 20
"""Transformed defects tried before one is pasted as it is."""
OPERATIONS = ("photometric", "rotation", "shear", "scale")

_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""


@dataclass(frozen=True)
class Defect:
    """One region of an anomalous image, cut out with a margin.

    Attributes:
        texture: ``(3, h, w)`` float32 RGB in [0, 1].
        mask: ``(h, w)`` bool, true on the defect itself.
    """

    texture: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class CutPasteSettings:
    """How a defect varies before it is pasted.

    Attributes:
        operations: Those in use, of `OPERATIONS`.
        probability: With which each of them (and each of brightness, contrast and saturation,
            which are ``photometric``) is applied to a defect.
        photometric: Factors of brightness, contrast and saturation, from and to.
        rotation: Degrees to either side.
        shear: Along x and along y, to either side.
        scale: Factors from and to. The published range starts at 0; a tenth keeps a defect
            visible.
        min_area: Least number of pixels pasted, so that a defect scaled to nothing is drawn anew.

    Raises:
        ConfigError: A value is out of its range.
    """

    operations: tuple[str, ...] = OPERATIONS
    probability: float = 0.5
    photometric: tuple[float, float] = (0.1, 1.9)
    rotation: float = 30.0
    shear: float = 0.3
    scale: tuple[float, float] = (0.1, 2.0)
    min_area: int = 4

    def __post_init__(self) -> None:
        in_order = "two factors in order, at least 0"
        known = set(self.operations) <= set(OPERATIONS)
        for key, allowed, fits in (
            ("operations", f"any of {', '.join(OPERATIONS)}", known),
            ("probability", "between 0 and 1", 0 <= self.probability <= 1),
            ("photometric", in_order, 0 <= self.photometric[0] <= self.photometric[1] < np.inf),
            ("rotation", "degrees from 0 to 180", 0 <= self.rotation <= 180),
            ("shear", "at least 0, below 1", 0 <= self.shear < 1),
            ("scale", in_order + ", up to 4", 0 <= self.scale[0] <= self.scale[1] <= 4),
            ("min_area", "a positive integer", self.min_area in range(1, 10**6)),
        ):
            if not fits:
                raise ConfigError(key, getattr(self, key), allowed)


@dataclass(frozen=True)
class Pasted:
    """An image with one more defect.

    Attributes:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, the old mask or the pasted area.
        area: ``(H, W)`` bool, the pasted area: the only pixels that may have changed.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    area: NDArray[np.bool_]


def defect_library(
    images: NDArray[np.float32], masks: NDArray[np.bool_], margin: int = 4
) -> tuple[Defect, ...]:
    """Cut every anomalous region out of a set of images.

    Args:
        images: ``(N, 3, H, W)`` float32 RGB in [0, 1]; of the training split only, or scores on
            other splits are worth nothing.
        masks: ``(N, H, W)`` bool. Regions are 8-connected; other regions inside a region's box
            do not belong to its defect.
        margin: Pixels around a region's box, for interpolation when the defect is turned.

    Raises:
        ConfigError: There is no anomalous pixel.
    """
    found = []
    for image, mask in zip(images, masks, strict=True):
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            box = _widen(rows, margin), _widen(columns, margin)
            found.append(Defect(image[:, *box].copy(), labels[box] == number))
    if not found:
        raise ConfigError("defects", 0, "at least one anomalous region to cut and paste")
    return tuple(found)


def cut_patch(
    image: NDArray[np.float32],
    foreground: Places,
    rng: np.random.Generator,
    valid: Places = None,
) -> Defect:
    """Cut a rectangle, or every other time a thin strip, out of a normal image.

    Rectangles take 2 to 15 % of the image's area with sides in ratios up to 3.3, strips are
    10 to 25 by 2 to 16 pixels at 256 (CutPaste, section 2.3, and its scar variant).

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        foreground: ``(H, W)`` bool, where the middle lies; None or an empty one for everywhere.
        rng: Source of every draw.
        valid: ``(H, W)`` bool, pixels that may belong to the patch; None for all.
    """
    shape = np.array(image.shape[1:])
    if rng.random() < 0.5:
        area = rng.uniform(0.02, 0.15) * shape.prod()
        ratio = np.exp(rng.uniform(-1, 1) * np.log(3.3))
        sides = np.sqrt((area * ratio, area / ratio))
    else:
        sides = rng.permutation((rng.uniform(10, 25), rng.uniform(2, 16))) * (shape.min() / 256)
    height, width = np.clip(np.rint(sides), 1, shape).astype(int)
    middle = draw_centre(image.shape[1:], foreground, rng)
    top, left = np.clip(np.array(middle) - (height // 2, width // 2), 0, shape - (height, width))
    box = slice(top, top + height), slice(left, left + width)
    mask = np.ones((height, width), dtype=bool) if valid is None else valid[box].copy()
    return Defect(image[:, *box].copy(), mask)


def transform(defect: Defect, settings: CutPasteSettings, rng: np.random.Generator) -> Defect:
    """Vary colours and shape at random.

    Texture and mask are interpolated linearly, and the mask is binary again from one half upwards.

    Returns:
        A new defect, cut to the box of its mask; with an empty ``(3, 0, 0)`` texture where nothing
        is left of it.
    """
    texture = defect.texture
    if "photometric" in settings.operations:
        texture = _photometric(texture, defect.mask, settings, rng)
    matrix = _matrix(settings, rng)
    if not np.array_equal(matrix, np.eye(2)):
        texture, mask = _warp(texture, defect.mask, matrix)
    else:
        mask = defect.mask
    if not mask.any():
        return Defect(np.empty((3, 0, 0), np.float32), np.empty((0, 0), bool))
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return Defect(texture[:, *box], mask[box])


def paste(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    defect: Defect,
    centre: tuple[int, int],
    valid: Places = None,
) -> Pasted:
    """Paste a defect with its middle at a pixel; what lies outside the image is lost.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, what is anomalous already.
        defect: What to paste, of any size.
        centre: Row and column, within the image.
        valid: ``(H, W)`` bool, pixels that may change; None for all.
    """
    height, width = defect.mask.shape
    corner = centre[0] - height // 2, centre[1] - width // 2
    target, source = zip(
        *(
            (
                slice(max(start, 0), min(start + length, limit)),
                slice(max(-start, 0), limit - start),
            )
            for start, length, limit in zip(corner, (height, width), mask.shape, strict=True)
        ),
        strict=True,
    )
    area, shown = np.zeros_like(mask), defect.mask[source]
    if valid is not None:
        shown = shown & valid[target]
    area[target] = shown
    pasted = image.copy()
    pasted[:, area] = defect.texture[:, *source][:, shown]
    return Pasted(pasted, mask | area, area)


def cut_and_paste(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    defects: Sequence[Defect],
    settings: CutPasteSettings,
    allowed: Places,
    rng: np.random.Generator,
    valid: Places = None,
) -> Pasted:
    """Paste one defect of a library at a random place.

    A draw that leaves fewer than ``min_area`` pixels in the image is repeated; after `MAX_TRIES`
    of them a defect is pasted as it was cut.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1], normal or anomalous.
        mask: ``(H, W)`` bool, what is anomalous already.
        defects: The library.
        settings: How the defect varies.
        allowed: ``(H, W)`` bool, where its middle may lie; None or an empty one for everywhere.
        rng: Source of every draw.
        valid: ``(H, W)`` bool, pixels that may change; None for all.

    Raises:
        ConfigError: The library is empty.
    """
    if not defects:
        raise ConfigError("defects", 0, "at least one anomalous region to cut and paste")
    for _ in range(MAX_TRIES):
        defect = defects[int(rng.integers(len(defects)))]
        centre = draw_centre(mask.shape, allowed, rng)
        pasted = paste(image, mask, transform(defect, settings, rng), centre, valid)
        if pasted.area.sum() >= settings.min_area:
            return pasted
    return paste(image, mask, defect, centre, valid)


def draw_centre(
    shape: tuple[int, ...], allowed: Places, rng: np.random.Generator
) -> tuple[int, int]:
    """A pixel drawn evenly from an area; from everywhere if that is None or empty."""
    if allowed is None or not allowed.any():
        row, column = rng.integers(0, shape)
    else:
        row, column = np.unravel_index(rng.choice(np.flatnonzero(allowed)), shape)
    return int(row), int(column)


def _widen(part: slice, margin: int) -> slice:
    return slice(max(0, part.start - margin), part.stop + margin)


def _photometric(
    texture: NDArray[np.float32],
    mask: NDArray[np.bool_],
    settings: CutPasteSettings,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Brightness away from black, contrast from the mean, saturation from grey; 1 is neutral."""
    for kind in ("brightness", "contrast", "saturation"):
        factor = np.float32(rng.uniform(*settings.photometric))
        if rng.random() >= settings.probability:
            continue
        grey = np.tensordot(_GREY, texture, 1)
        origin = {"brightness": np.float32(0), "contrast": grey[mask].mean(), "saturation": grey}
        texture = np.clip(origin[kind] + factor * (texture - origin[kind]), 0, 1)
    return texture


def _matrix(settings: CutPasteSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """From defect to target, on (y, x): scale after shear after rotation."""
    angle = np.deg2rad(rng.uniform(-settings.rotation, settings.rotation))
    along_y, along_x = rng.uniform(-settings.shear, settings.shear, 2)
    steps = {
        "rotation": np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]),
        "shear": np.array([[1, along_y], [along_x, 1]]),
        "scale": np.eye(2) * rng.uniform(*settings.scale),
    }
    matrix = np.eye(2)
    for name, step in steps.items():
        chosen = rng.random() < settings.probability
        if chosen and name in settings.operations:
            matrix = step @ matrix
    return matrix


def _warp(
    texture: NDArray[np.float32], mask: NDArray[np.bool_], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Apply a linear map about the middle, on a canvas that holds the whole result."""
    size = np.array(mask.shape)
    extent = np.ceil(np.abs(matrix) @ size).astype(int)
    if min(extent) < 1 or np.linalg.det(matrix) < 1e-6:
        return np.empty((3, 0, 0), np.float32), np.empty((0, 0), bool)
    inverse = np.linalg.inv(matrix)
    offset = (size - 1) / 2 - inverse @ ((extent - 1) / 2)
    shape = tuple(extent)
    channels = [
        ndimage.affine_transform(channel, inverse, offset, shape, order=1, mode="nearest")
        for channel in texture
    ]
    turned = ndimage.affine_transform(mask.astype(np.float32), inverse, offset, shape, order=1)
    return np.stack(channels), turned >= 0.5
