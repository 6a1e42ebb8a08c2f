"""What may happen to a picture in a plant: turned, mirrored, moved, lit otherwise, blurred, noisy.

Geometry moves ground truth and the pixels that count along, to the nearest pixel; what it moves in
from beyond the picture is its mirror image (streaks would be anomalies of their own, and be seen
from inside), and counts nowhere. Brightness, contrast and blur are
torchvision's (``transforms.v2.functional``), on RGB in [0, 1]; JPEG is Pillow's, whose encoder is
that of most tools. All stays in place there.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from autosearch.contracts import shared_tensor
from autosearch.data import ImageSet

Values = NDArray[Any]


@dataclass(frozen=True)
class Change:
    """One change of pictures.

    Attributes:
        name: Of the change and its severity, such as ``brightness x 0.8``.
        family: Of changes that differ in severity alone.
        severity: In words.
        square: Whether it needs a canvas as high as wide.
        moved: Moves the last two axes of any array; what comes in from beyond is mirrored. None
            where everything stays in place.
        within: Whether each pixel of an ``(h, w)`` array shows something that was in the picture
            before; None where all do.
        repainted: ``(N, 3, H, W)`` in [0, 1] to the same, given a source of random numbers; None
            for geometry.
    """

    name: str
    family: str
    severity: str
    square: bool = False
    moved: Callable[[Values], Values] | None = None
    within: Callable[[tuple[int, int]], NDArray[np.bool_]] | None = None
    repainted: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def pictures(self, images: ImageSet, noise: torch.Generator) -> ImageSet:
        """The images as they would look.

        Args:
            images: Some images of a split.
            noise: For changes that draw; it goes on from image to image.
        """
        if self.moved is None:
            assert self.repainted is not None
            given = shared_tensor(images.pixels)
            pixels = self.repainted(given, noise).clamp(0, 1).numpy()
            return replace(images, pixels=pixels, place=None)
        size = (images.masks.shape[1], images.masks.shape[2])
        inside = None if self.within is None else self.within(size)
        masks, valid = self.moved(images.masks), images.valid
        valid = None if valid is None else self.moved(valid)
        regions = None if images.regions is None else self.moved(images.regions)
        if inside is not None:
            masks = masks & inside
            valid = (np.ones_like(masks) if valid is None else valid) & inside
            regions = None if regions is None else np.where(inside, regions, 0).astype(np.int32)
        pixels = np.ascontiguousarray(self.moved(images.pixels))
        return replace(
            images, pixels=pixels, masks=masks, valid=valid, regions=regions, place=None
        )


def changes_of(size: tuple[int, int]) -> tuple[list[Change], list[Change]]:
    """The changes for a canvas, and those that it is not square enough for.

    Args:
        size: Height and width of the input.
    """
    every = list(_all())
    square = size[0] == size[1]
    return (
        [change for change in every if square or not change.square],
        [change for change in every if change.square and not square],
    )


def _all() -> Iterator[Change]:
    for quarters in (1, 2, 3):
        degrees = 90 * quarters
        yield Change(
            f"turned by {degrees}°",
            "turn",
            f"{degrees}° anticlockwise",
            square=quarters != 2,
            moved=partial(np.rot90, k=quarters, axes=(-2, -1)),
        )
    yield Change(
        "mirrored left-right", "mirror", "left and right", moved=partial(np.flip, axis=-1)
    )
    yield Change("mirrored up-down", "mirror", "top and bottom", moved=partial(np.flip, axis=-2))
    for share in (0.02, 0.05, 0.1):
        yield Change(
            f"shifted by {share:.0%}",
            "shift",
            f"down and to the right by {share:.0%} of each side, at least a pixel",
            moved=partial(_shifted, share=share),
            within=partial(_shown, share=share),
        )
    for factor in (0.8, 0.9, 1.1, 1.2):
        yield Change(
            f"brightness x {factor:g}",
            "brightness",
            f"values times {factor:g}, cut off at white",
            repainted=partial(_painted, functional.adjust_brightness, factor),
        )
    for factor in (0.8, 1.2):
        yield Change(
            f"contrast x {factor:g}",
            "contrast",
            f"distance from the picture's mean grey times {factor:g}",
            repainted=partial(_painted, functional.adjust_contrast, factor),
        )
    for sigma in (0.5, 1.0, 2.0):
        yield Change(
            f"blur {sigma:g} px",
            "blur",
            f"Gaussian with a standard deviation of {sigma:g} pixels of the input",
            repainted=partial(_painted, _blurred, sigma),
        )
    for quality in (90, 70, 40):
        yield Change(
            f"JPEG {quality}",
            "jpeg",
            f"encoded with quality {quality}",
            repainted=partial(_painted, _encoded, quality),
        )
    for sigma in (0.01, 0.02, 0.05):
        yield Change(
            f"noise {sigma:g}",
            "noise",
            f"Gaussian with a standard deviation of {sigma:g} of the full scale",
            repainted=partial(_noisy, sigma),
        )


def _steps(length: int, share: float) -> int:
    return min(length - 1, max(1, round(share * length)))


def _shifted(values: Values, share: float) -> Values:
    """Moved down and to the right; the other side of both edges is their mirror image."""
    height, width = values.shape[-2:]
    rows = np.abs(np.arange(height) - _steps(height, share))
    columns = np.abs(np.arange(width) - _steps(width, share))
    return values[..., rows[:, None], columns]


def _shown(size: tuple[int, int], share: float) -> NDArray[np.bool_]:
    shown = np.zeros(size, dtype=bool)
    shown[_steps(size[0], share) :, _steps(size[1], share) :] = True
    return shown


def _painted(
    how: Callable[[Tensor, Any], Tensor], amount: float, pixels: Tensor, noise: torch.Generator
) -> Tensor:
    """What draws nothing."""
    return how(pixels, amount)


def _noisy(sigma: float, pixels: Tensor, noise: torch.Generator) -> Tensor:
    return pixels + sigma * torch.randn(pixels.shape, generator=noise)


def _blurred(pixels: Tensor, sigma: float) -> Tensor:
    # Three deviations to each side, as far as the picture is large enough to be mirrored.
    reach = min(math.ceil(3 * sigma), min(pixels.shape[-2:]) - 1)
    blurred: Tensor = functional.gaussian_blur(pixels, [2 * reach + 1] * 2, [sigma, sigma])
    return blurred


def _encoded(pixels: Tensor, quality: int) -> Tensor:
    """Through a JPEG file and back, picture by picture."""
    whole = (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    again = []
    for one in whole:
        file = io.BytesIO()
        Image.fromarray(one).save(file, "JPEG", quality=quality)
        with Image.open(file) as picture:
            again.append(np.asarray(picture))
    return torch.from_numpy(np.stack(again)).permute(0, 3, 1, 2).float() / 255
