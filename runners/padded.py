"""Detectors of images whose sides their strides do not divide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from autosearch.contracts import Cost, Detector, TrialContext
from autosearch.data import ImageSet

from .sides import Sides


def at_stride(
    make: Callable[[TrialContext], Detector], context: TrialContext, stride: int
) -> Detector:
    """A detector for sides that are multiples of a stride, made for images of any.

    Args:
        make: Makes it for a context.
        context: What the trial is given.
        stride: Pixels of which its sides must be multiples.

    Raises:
        Infeasible: The images are far too small.
    """
    if not any(side % stride for side in context.image_size):
        return make(context)
    return PaddedDetector(make, context, stride)


class PaddedDetector(Detector):
    """Sees images mirrored at the bottom and on the right, and answers for the images alone.

    What is mirrored does not count: nothing is learnt from it twice.

    Args:
        make: See `at_stride`; so are the others.
    """

    def __init__(
        self, make: Callable[[TrialContext], Detector], context: TrialContext, stride: int
    ) -> None:
        self._sides = Sides(context.image_size, stride)
        rows, columns = self._sides.grid
        self._inner = make(replace(context, image_size=(rows * stride, columns * stride)))
        self.top_share = self._inner.top_share

    def fit(self, train: ImageSet) -> None:
        """See `Detector.fit`."""
        self._inner.fit(self._padded(train))

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """See `Detector.fit_in_steps`."""
        yield from self._inner.fit_in_steps(self._padded(train))

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """See `Detector.anomaly_maps`."""
        return self._sides.cut(self._inner.anomaly_maps(self._sides.pad(images))).contiguous()

    def memory(self, images: int) -> int:
        """See `Detector.memory`: the mirrored images are copies of their own."""
        rows, columns = self._sides.rows, self._sides.columns
        return self._inner.memory(images) + 12 * images * len(rows) * len(columns)

    def artifacts(self) -> dict[str, bytes]:
        """See `Detector.artifacts`."""
        return self._inner.artifacts()

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`."""
        return self._inner.figures()

    def cost(self) -> Cost:
        """See `Detector.cost`, of the mirrored image."""
        return self._inner.cost()

    def module(self) -> nn.Module:
        """See `Detector.module`."""
        inner = self._inner.module()
        device = next(inner.parameters()).device
        return PaddedMaps(self._sides, inner).to(device).eval()

    def _padded(self, train: ImageSet) -> ImageSet:
        rows, columns = self._sides.rows.numpy(), self._sides.columns.numpy()
        height, width = train.pixels.shape[2:]
        valid = np.zeros((len(train), len(rows), len(columns)), dtype=bool)
        valid[:, :height, :width] = True if train.valid is None else train.valid
        pixels = train.pixels[:, :, rows][..., columns]
        return replace(train, pixels=pixels, valid=valid, place=None)


class PaddedMaps(nn.Module):
    """The same as one graph of plain operations.

    Args:
        sides: How images are mirrored.
        maps: Of mirrored images.
    """

    def __init__(self, sides: Sides, maps: nn.Module) -> None:
        super().__init__()
        self.sides, self.maps = sides, maps

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)``; higher is more anomalous."""
        maps: Tensor = self.sides.cut(self.maps(self.sides.pad(images)))
        return maps
