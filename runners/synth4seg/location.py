"""What a location map is for: places to paste at, weights of samples, a price for its size."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Reduction = Literal["mean", "sum"]


def allowed_areas(probabilities: Tensor, threshold: float) -> NDArray[np.bool_]:
    """Pixels at which a defect may be pasted (Algorithm 1).

    Args:
        probabilities: ``(B, H, W)`` in [0, 1], what the location net says of the images.
        threshold: Places must be above it.

    Returns:
        ``(B, H, W)`` bool; all of an image where no place is, or one is NaN.
    """
    allowed: NDArray[np.bool_] = (probabilities.detach() > threshold).cpu().numpy()
    allowed[~allowed.any(axis=(1, 2))] = True
    return allowed


def sample_factors(probabilities: Tensor, areas: Tensor) -> Tensor:
    """Mean of the location map over what was pasted, the ``alpha`` of equation 4.

    Args:
        probabilities: ``(B, H, W)`` in [0, 1] of the images that were pasted on; carries gradient.
        areas: ``(..., B, H, W)`` float, 1 on pasted pixels and 0 elsewhere.

    Returns:
        ``(..., B)``, 1 where nothing was pasted.
    """
    size = areas.sum(dim=(-2, -1))
    inside = (probabilities * areas).sum(dim=(-2, -1))
    return (inside + (size == 0)) / size.clamp(min=1)


def l1_penalty(probabilities: Tensor, reduction: Reduction) -> Tensor:
    """Mean over images of the location map's L1 norm, a scalar.

    Args:
        probabilities: ``(B, H, W)`` in [0, 1].
        reduction: Over an image's pixels; ``sum`` is printed, ``mean`` does not grow with the
            image.
    """
    if reduction == "sum":
        return probabilities.sum(dim=(-2, -1)).mean()
    return probabilities.mean()
