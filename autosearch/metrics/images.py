"""What score an image has: that of its highest pixel, or the mean of its highest share."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autosearch.metrics.ranking import finite_scores
from autosearch.metrics.truth import Scores


def image_scores(
    maps: ArrayLike, top_share: float | None = None, counted: NDArray[np.bool_] | None = None
) -> Scores:
    """Score each image by its most anomalous pixel, or by the mean of several.

    Args:
        maps: ``(N, H, W)`` scores.
        top_share: Share of an image's pixels, in (0, 1]: the mean of its `pixels_of_share` highest
            ones is its score. None for the highest alone.
        counted: ``(N, H, W)`` bool, the pixels of which it is a share; of an image in which none
            counts, all. None where all count.

    Returns:
        ``(N,)``, of the type of the maps.

    Raises:
        ValueError: If a score is NaN or infinite, or the share is not allowed.
    """
    scores = finite_scores("anomaly maps", maps)
    found: Scores = np.empty(len(scores), dtype=scores.dtype)
    for i, one in enumerate(scores):
        own = None if counted is None else counted[i]
        chosen = one.ravel() if own is None or not own.any() else one[own]
        if top_share is None:
            found[i] = chosen.max()
            continue
        number = pixels_of_share(top_share, chosen.size)
        highest = np.partition(chosen, chosen.size - number)[chosen.size - number :]
        found[i] = highest.mean(dtype=np.float64)
    return found


def pixels_of_share(top_share: float, pixels: int) -> int:
    """How many pixels a share of some is: rounded up, so that it is one at least.

    Raises:
        ValueError: If the share does not lie in (0, 1].
    """
    if not 0 < top_share <= 1:
        raise ValueError(f"top_share: {top_share!r} is not allowed; expected one in (0, 1]")
    return max(1, math.ceil(top_share * pixels))
