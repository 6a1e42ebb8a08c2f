"""TrivialAugment for segmentation: one random operation on an image and its mask together.

Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation" (ICCV
2021), with the ranges of its first search space, from which Synth4Seg's Table II is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

_SHIFT = 1 / 7
"""Largest shift as a share of the side; the paper gives pixels, whatever the image's size."""


@dataclass(frozen=True)
class Operation:
    """One way to vary an image, with a strength.

    Attributes:
        low: Least strength.
        high: Largest strength; equal to ``low`` where there is nothing to choose.
        colour: From picture and strength to a picture; None where the shape changes.
        shape: From strength to a matrix on (y, x) and a shift as a share of the sides, from the
            image to what becomes of it; None where colours change.
    """

    low: float
    high: float
    colour: Callable[[Image.Image, float], Image.Image] | None = None
    shape: Callable[[float], tuple[NDArray[np.float64], tuple[float, float]]] | None = None


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return Operation(0.1, 1.9, colour=lambda picture, factor: kind(picture).enhance(factor))


def _linear(matrix: Callable[[float], list[list[float]]], reach: float) -> Operation:
    return Operation(-reach, reach, shape=lambda s: (np.array(matrix(s)), (0.0, 0.0)))


def _turn(degrees: float) -> list[list[float]]:
    angle = np.deg2rad(degrees)
    return [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(0, 0, colour=lambda picture, _: picture),
    "autocontrast": Operation(0, 0, colour=lambda picture, _: ImageOps.autocontrast(picture)),
    "equalise": Operation(0, 0, colour=lambda picture, _: ImageOps.equalize(picture)),
    "brightness": _enhance(ImageEnhance.Brightness),
    "contrast": _enhance(ImageEnhance.Contrast),
    "colour": _enhance(ImageEnhance.Color),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "posterise": Operation(4, 8, colour=lambda p, bits: ImageOps.posterize(p, round(bits))),
    "solarise": Operation(0, 256, colour=lambda p, level: ImageOps.solarize(p, round(level))),
    "rotate": _linear(_turn, 30),
    "shear_x": _linear(lambda s: [[1, 0], [s, 1]], 0.3),
    "shear_y": _linear(lambda s: [[1, s], [0, 1]], 0.3),
    "shift_x": Operation(-_SHIFT, _SHIFT, shape=lambda s: (np.eye(2), (0.0, s))),
    "shift_y": Operation(-_SHIFT, _SHIFT, shape=lambda s: (np.eye(2), (s, 0.0))),
}
"""By name; all are drawn equally often."""


def trivial_augment(
    image: NDArray[np.float32], mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Apply one operation, drawn evenly, with a strength drawn evenly from its range.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1].
        mask: ``(H, W)`` bool, or ``(M, H, W)`` for several.
        rng: Source of both draws.

    Returns:
        New arrays of the same shapes.
    """
    operation = list(OPERATIONS.values())[int(rng.integers(len(OPERATIONS)))]
    return augment(image, mask, operation, rng.uniform(operation.low, operation.high))


def augment(
    image: NDArray[np.float32], mask: NDArray[np.bool_], operation: Operation, strength: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Apply an operation; changes of colour leave the mask as it is and work in 8 bits.

    Shapes change about the middle, image and mask alike: interpolated linearly and mirrored at the
    borders, so that there are neither black corners nor unlabelled pieces of a defect. The mask is
    binary again from one half upwards.
    """
    if operation.shape is not None:
        return _warp(image, mask, *operation.shape(strength))
    if operation.colour is None:
        raise ValueError("an operation changes either colours or the shape")
    levels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
    changed = np.asarray(operation.colour(Image.fromarray(levels), strength), np.float32)
    return np.ascontiguousarray(changed.transpose(2, 0, 1)) / np.float32(255), mask.copy()


def _warp(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_],
    matrix: NDArray[np.float64],
    shift: tuple[float, float],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    size = np.array(mask.shape[-2:])
    middle = (size - 1) / 2
    inverse = np.linalg.inv(matrix)
    offset = middle - inverse @ (middle + np.array(shift) * size)
    masks = mask.reshape(-1, *mask.shape[-2:]).astype(np.float32)
    both = np.concatenate([image, masks])
    warped = np.stack(
        [ndimage.affine_transform(c, inverse, offset, order=1, mode="reflect") for c in both]
    )
    return warped[:3], warped[3:].reshape(mask.shape) >= 0.5
