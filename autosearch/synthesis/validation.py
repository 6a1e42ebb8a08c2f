"""Synthetic anomalies to validate on, where real ones are few or missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autosearch.errors import ConfigError
from autosearch.synthesis.blending import SynthesisSettings, synthesise
from autosearch.synthesis.cutpaste import CutPasteSettings, Defect, cut_and_paste, cut_patch
from autosearch.synthesis.placing import Places, places
from autosearch.synthesis.procedural import ProceduralTextures
from autosearch.synthesis.textures import TextureSource

Kind = Literal["perlin", "cutpaste"]

_TRIES = 50
_VISIBLE = 0.05
"""Least mean change of a region, by its most changed channel, of a full scale of 1."""
_LEAST_AREA = 1 / 4096
"""Least area of a region as a part of the image: 4 x 4 pixels at 256."""

Anomalous = tuple[NDArray[np.float32], NDArray[np.bool_]]


def synthetic_validation(
    normals: NDArray[np.float32],
    kind: Kind,
    per_image: int,
    seed: int,
    *,
    foregrounds: Places = None,
    valid: Places = None,
    textures: TextureSource | None = None,
    synthesis: SynthesisSettings | None = None,
    defects: Sequence[Defect] = (),
    cutpaste: CutPasteSettings | None = None,
) -> Anomalous:
    """Make anomalous images of normal ones, with masks that hold what can be seen and no more.

    A region that is tiny or hardly changed is taken back: its label would say nothing but noise,
    and metrics that weigh all regions alike would hang on it.

    Args:
        normals: ``(N, 3, H, W)`` float32 RGB in [0, 1], none of them trained on.
        kind: ``perlin`` blends texture in, ``cutpaste`` pastes one defect.
        per_image: Anomalous images per normal one.
        seed: Together with an image's index it fixes what that image gives, whatever the other
            images are. A larger ``per_image`` adds to what a smaller one gives.
        foregrounds: ``(N, H, W)`` bool, where anomalies may be (for ``cutpaste``, their middles).
        valid: ``(N, H, W)`` bool, the pixels that count, some in every image: no other one becomes
            anomalous. None for all.
        textures: Source for ``perlin``; procedural if None.
        synthesis: Settings of ``perlin``.
        defects: Library for ``cutpaste``; if empty, pieces of the same normal image are pasted.
        cutpaste: Settings of ``cutpaste``.

    Returns:
        ``(N * per_image, 3, H, W)`` images, those of one normal image next to each other, and
        their ``(N * per_image, H, W)`` masks, none of them empty.

    Raises:
        ConfigError: The kind is unknown, ``per_image`` is not positive, or an image admits no
            anomaly that can be seen.
    """
    if kind not in get_args(Kind):
        raise ConfigError("kind", kind, "perlin or cutpaste")
    if per_image < 1:
        raise ConfigError("per_image", per_image, "a positive integer")
    textures = textures or ProceduralTextures()
    synthesis, cutpaste = synthesis or SynthesisSettings(), cutpaste or CutPasteSettings()

    def draw(
        image: NDArray[np.float32], where: Places, counted: Places, rng: np.random.Generator
    ) -> Anomalous:
        if kind == "perlin":
            made = synthesise(image, synthesis, textures, where, rng)
            return made.image, made.mask
        library = defects or (cut_patch(image, where, rng, counted),)
        clean = np.zeros(image.shape[1:], dtype=bool)
        pasted = cut_and_paste(image, clean, library, cutpaste, where, rng, counted)
        return pasted.image, pasted.mask

    images = np.empty((len(normals) * per_image, *normals.shape[1:]), dtype=np.float32)
    masks = np.empty((len(images), *normals.shape[2:]), dtype=bool)
    for index, normal in enumerate(normals):
        rng = np.random.default_rng([seed, index])
        counted = None if valid is None else valid[index]
        where = places(None if foregrounds is None else foregrounds[index], counted)
        for place in range(index * per_image, (index + 1) * per_image):
            for _ in range(_TRIES):
                images[place], masks[place] = _visible(normal, *draw(normal, where, counted, rng))
                if masks[place].any():
                    break
            else:
                allowed = f"a kind and settings whose anomalies can be seen on image {index}"
                raise ConfigError("kind", kind, allowed)
    return images, masks


def _visible(
    normal: NDArray[np.float32], image: NDArray[np.float32], mask: NDArray[np.bool_]
) -> Anomalous:
    """Take back every 8-connected region that is too small or hardly changed."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    change = np.abs(image - normal).max(axis=0)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    total = np.bincount(labels.ravel(), change.ravel(), minlength=count + 1)
    seen = (area >= _LEAST_AREA * mask.size) & (total >= _VISIBLE * area)
    seen[0] = False
    kept = seen[labels]
    return np.where(kept, image, normal), kept
