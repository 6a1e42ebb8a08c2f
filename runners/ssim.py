"""How unlike two images are in structure, pixel by pixel.

Wang et al., "Image quality assessment: from error visibility to structural similarity" (2004), on
kornia's Gaussian windows, which have gradients and can be exported for batches of any size.
"""

from __future__ import annotations

from kornia.filters import gaussian_blur2d
from torch import Tensor

WINDOW, _SIGMA = 11, 1.5
"""Side of the Gaussian window in pixels, and its deviation."""
SMALLEST = WINDOW // 2 + 1
"""Sides below this cannot be mirrored as far as a window reaches."""
_OF_MEANS, _OF_DEVIATIONS = 0.01**2, 0.03**2
"""What keeps quotients finite, for pixels in [0, 1]."""


def dissimilarity(first: Tensor, second: Tensor) -> Tensor:
    """``1 - SSIM`` around every pixel, averaged over channels.

    SSIM is the likeness of means times that of structure. As usually written it subtracts nearly
    equal squares, and on bright, plain images single precision leaves nothing but rounding: so
    here both are computed as what they lack of 1, from the difference of the images and from
    values around the image's mean. All runtimes then agree.

    Args:
        first: ``(N, C, H, W)`` in [0, 1], sides of `SMALLEST` pixels at least.
        second: The same shape.

    Returns:
        ``(N, H, W)`` in [0, 2]: 0 for equal images, higher is more unlike.
    """
    centre = first.mean(dim=(2, 3), keepdim=True)
    one, two, difference = first - centre, second - centre, first - second
    mean_one, mean_two, between = _blurred(one), _blurred(two), _blurred(difference)
    squares = _blurred(one.square() + two.square())
    variances = (squares - mean_one.square() - mean_two.square()).clamp(min=0)
    apart = (_blurred(difference.square()) - between.square()).clamp(min=0)
    bright = (mean_one + centre).square() + (mean_two + centre).square()
    of_means = between.square() / (bright + _OF_MEANS)
    of_structure = apart / (variances + _OF_DEVIATIONS)
    return (of_means + of_structure - of_means * of_structure).mean(dim=1)


def _blurred(images: Tensor) -> Tensor:
    """Means of windows around every pixel; images are mirrored at their borders."""
    made: Tensor = gaussian_blur2d(images, (WINDOW, WINDOW), (_SIGMA, _SIGMA))
    return made
