"""The object's area in normal images, found without any learning.

GLASS reads foreground masks from downloaded files; here they come from the images: what lies far
from the colour of the border is the object. Where the border has no colour of its own, as in
images of textures, all is foreground.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

_RING = 1 / 32
"""Width of the border, as a part of the image's side."""
_CALM = 0.8
"""Part of the border that must look like background; the object may cross the rest."""
_CONTRAST = 0.1
"""Least distance of the object from the background, of a full scale of 1."""
_CLARITY = 5.0
"""Least ratio of that distance to the background's own spread."""
_AREA = (0.01, 0.95)
"""Parts of the image between which an object's area is believed."""


def foreground_masks(images: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the object in each normal image of one category.

    All masks are full unless an object stands out in most of the images, so that a single odd
    image does not make an object of a texture.

    Args:
        images: ``(N, 3, H, W)`` float32 RGB in [0, 1].

    Returns:
        ``(N, H, W)`` bool, true on the object; all true for an image in which none stands out.
    """
    masks = np.array([foreground_mask(image) for image in images], dtype=bool)
    masks = masks.reshape(len(images), *images.shape[2:])
    if 2 * masks.all(axis=(1, 2)).sum() >= len(images):
        masks[:] = True
    return masks


def foreground_mask(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the object in one normal image: the area unlike the border, with its holes filled.

    A pixel's distance from the background is its largest difference in any channel from the
    border's median colour, after slight smoothing. Above Otsu's threshold (1979) it belongs to the
    object; so do weaker pixels connected to such ones.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1].

    Returns:
        ``(H, W)`` bool, true on the object; all true where the border is not homogeneous, nothing
        stands out from it, or what does has no believable area.
    """
    # Imported here because it takes long and most uses of this package never need it.
    from skimage.filters import apply_hysteresis_threshold, threshold_otsu

    side = min(image.shape[1:])
    full = np.ones(image.shape[1:], dtype=bool)
    sigma = side / 200
    smooth = scipy.ndimage.gaussian_filter(image, (0, sigma, sigma))
    ring = full.copy()
    width = max(1, round(side * _RING))
    ring[width:-width, width:-width] = False
    colour = np.median(smooth[:, ring], axis=1)
    distance = np.abs(smooth - colour[:, None, None]).max(axis=0)
    spread = np.quantile(distance[ring], _CALM)
    if np.ptp(distance) < _CONTRAST:
        return full
    high = threshold_otsu(distance)
    if np.median(distance[distance > high]) < max(_CONTRAST, _CLARITY * spread):
        return full
    found = apply_hysteresis_threshold(distance, min(high, max(high / 3, 2 * spread)), high)
    found = _clean(found, round(side / 64))
    return found if _AREA[0] <= found.mean() <= _AREA[1] else full


def _clean(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Close gaps, fill holes and remove specks up to ``radius`` pixels."""
    closed = _grow(mask, radius)
    closed = ~_grow(~scipy.ndimage.binary_fill_holes(closed), radius)
    opened = _grow(~_grow(~closed, radius), radius)
    # Opening rounds off thin parts as well; whatever still hangs together with a thick part stays.
    kept = scipy.ndimage.binary_propagation(opened, mask=closed, structure=np.ones((3, 3)))
    return np.asarray(kept, dtype=bool)


def _grow(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Add all pixels within a distance; a mask that has no pixel stays empty."""
    if not mask.any():
        return mask
    return np.asarray(scipy.ndimage.distance_transform_edt(~mask) <= radius)
