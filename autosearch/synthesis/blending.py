"""Image-space anomaly synthesis (LAS) of GLASS: foreign texture blended in below a Perlin mask.

Chen et al., "A Unified Anomaly Synthesis Strategy with Gradient Ascent for Industrial Anomaly
Detection and Localization", ECCV 2024, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autosearch.errors import ConfigError
from autosearch.synthesis.operations import OPERATIONS
from autosearch.synthesis.perlin import draw_mask
from autosearch.synthesis.textures import TextureSource, draw_texture


@dataclass(frozen=True)
class SynthesisSettings:
    """How anomalies are made; names and defaults as in the search space of GLASS.

    Attributes:
        perlin_max_exp: Noise has ``2**e`` periods per axis, ``e`` from 0 to this.
        perlin_threshold: Noise above it is anomalous.
        n_texture_ops: Different operations on a texture, 0 to all nine.
        blend_mean: Mean share of the original image below the mask.
        blend_std: Its standard deviation.
        blend_clip: Bounds that the drawn share is clipped to.
        cell: Downsampling of the first feature layer, in pixels.

    Raises:
        ConfigError: A value is out of its range.
    """

    perlin_max_exp: int = 5
    perlin_threshold: float = 0.5
    n_texture_ops: int = 3
    blend_mean: float = 0.5
    blend_std: float = 0.1
    blend_clip: tuple[float, float] = (0.2, 0.8)
    cell: int = 8

    def __post_init__(self) -> None:
        low, high = self.blend_clip
        every = len(OPERATIONS)
        for key, allowed, fits in (
            ("perlin_max_exp", "an integer from 0 to 10", self.perlin_max_exp in range(11)),
            ("perlin_threshold", "at least 0, below 1", 0 <= self.perlin_threshold < 1),
            (
                "n_texture_ops",
                f"an integer from 0 to {every}",
                self.n_texture_ops in range(every + 1),
            ),
            ("blend_mean", "between 0 and 1", 0 <= self.blend_mean <= 1),
            ("blend_std", "between 0 and 1", 0 <= self.blend_std <= 1),
            ("blend_clip", "two bounds in order between 0 and 1", 0 <= low <= high <= 1),
            ("cell", "an integer from 1 to 256", self.cell in range(1, 257)),
        ):
            if not fits:
                raise ConfigError(key, getattr(self, key), allowed)


@dataclass(frozen=True)
class Synthetic:
    """A normal image made anomalous.

    Attributes:
        image: ``(3, H, W)`` float32 RGB in [0, 1], the original outside the mask.
        mask: ``(H, W)`` bool.
        pooled_mask: ``(ceil(H / cell), ceil(W / cell))`` bool, true where any pixel is.
        blend: The share of the original below the mask; at 1 nothing changed and both masks are
            empty.
        fell_back: Whether the foreground was empty, or no drawn mask fitted into it.
    """

    image: NDArray[np.float32]
    mask: NDArray[np.bool_]
    pooled_mask: NDArray[np.bool_]
    blend: float
    fell_back: bool


def synthesise(
    image: NDArray[np.float32],
    settings: SynthesisSettings,
    textures: TextureSource,
    foreground: NDArray[np.bool_] | None,
    rng: np.random.Generator,
) -> Synthetic:
    """Make one anomalous image of a normal one.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1], not normalised: the operations on textures
            need pixel values.
        settings: How.
        textures: Where the foreign texture comes from.
        foreground: ``(H, W)`` bool, true where anomalies may be; None stands for everywhere.
        rng: Source of every draw. Workers need their own, one per worker and epoch.

    Raises:
        ConfigError: The image has not three channels, or the foreground another size.
    """
    where = np.ones(image.shape[1:], dtype=bool) if foreground is None else foreground
    if image.shape != (3, *where.shape) or where.ndim != 2:
        raise ConfigError("image", (image.shape, where.shape), "(3, H, W), foreground (H, W)")
    height, width = where.shape
    drawn = draw_mask(
        where, settings.perlin_max_exp, settings.perlin_threshold, settings.cell, rng
    )
    texture = draw_texture(textures, (height, width), settings.n_texture_ops, rng)
    share = float(
        np.clip(rng.normal(settings.blend_mean, settings.blend_std), *settings.blend_clip)
    )
    if share == 1:
        nothing = np.zeros_like(drawn.mask), np.zeros_like(drawn.pooled)
        return Synthetic(image.copy(), *nothing, share, drawn.fell_back)
    blended = blend(image, texture, drawn.mask, share)
    return Synthetic(blended, drawn.mask, drawn.pooled, share, drawn.fell_back)


def blend(
    image: NDArray[np.float32],
    texture: NDArray[np.float32],
    mask: NDArray[np.bool_],
    share: float,
) -> NDArray[np.float32]:
    """``share * image + (1 - share) * texture`` inside the mask, the image outside.

    Args:
        image: ``(3, H, W)`` float32.
        texture: ``(3, H, W)`` float32.
        mask: ``(H, W)`` bool.
        share: Of the original image, in [0, 1].
    """
    keep, take = np.float32(share), np.float32(1 - share)
    return np.where(mask, keep * image + take * texture, image)
