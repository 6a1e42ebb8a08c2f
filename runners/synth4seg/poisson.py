"""Poisson blending (Pérez et al., 2003): a pasted defect keeps its edges, not its brightness."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from autosearch.errors import ConfigError
from autosearch.synthesis import Pasted

_ERODED = 3
"""Pixels that OpenCV takes off a mask before it blends."""
_BORDER = _ERODED + 3
"""Pixels around the image, so that a defect at its edge has surroundings, too."""
_SQUARE = np.ones((3, 3), dtype=bool)


def load_opencv() -> Any:
    """Import OpenCV, which only this kind of blending needs.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("cv2")
    except ImportError:
        allowed = "direct, or install OpenCV with: pip install 'autosearch[poisson]'"
        raise ConfigError("space.blend", "poisson", allowed) from None


def poisson_blend(image: NDArray[np.float32], pasted: Pasted) -> Pasted:
    """Blend what was pasted into its surroundings; the area and the mask stay.

    Args:
        image: ``(3, H, W)`` float32 RGB in [0, 1], before the defect was pasted.
        pasted: The same image afterwards.

    Returns:
        An image that differs from ``image`` in the pasted area alone, where it has 8 bits.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    opencv = load_opencv()
    if not pasted.area.any():
        return pasted
    area = np.pad(pasted.area, _BORDER)
    # The blending looks beyond the defect's edge, where its nearest pixel stands for it.
    rows, columns = ndimage.distance_transform_edt(
        ~area, return_distances=False, return_indices=True
    )
    texture, around = (_padded(pixels) for pixels in (pasted.image, image))
    grown = ndimage.binary_dilation(area, _SQUARE, iterations=_ERODED)
    box_rows, box_columns = ndimage.find_objects(grown.astype(np.uint8))[0]
    middle = [part.start + (part.stop - part.start) // 2 for part in (box_columns, box_rows)]
    blended = opencv.seamlessClone(
        np.ascontiguousarray(texture[rows, columns]),
        around,
        grown.astype(np.uint8) * 255,
        middle,
        opencv.NORMAL_CLONE,
    )
    inner = blended[_BORDER:-_BORDER, _BORDER:-_BORDER].transpose(2, 0, 1)
    result = image.copy()
    result[:, pasted.area] = inner[:, pasted.area].astype(np.float32) / 255
    return Pasted(result, pasted.mask, pasted.area)


def _padded(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """``(H, W, 3)`` of 8 bits with its outermost pixels repeated on all sides."""
    levels = np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)
    return np.pad(levels, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), mode="edge")
