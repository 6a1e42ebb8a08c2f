"""Batch-norm statistics of one extractor, measured anew on images it will be used on.

A supernet stores one set of statistics for all its subnets; those of a small or shallow subnet
differ (Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019,
section 4).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from autosearch.backbones.features import FeatureExtractor, resize

MOST_IMAGES = 64
"""More images than these hardly change the statistics."""


def recalibrate(
    extractor: FeatureExtractor,
    images: Tensor,
    batch_size: int = 32,
    image_size: tuple[int, int] | None = None,
) -> FeatureExtractor:
    """Copy an extractor with the statistics of its batch norms measured on images.

    Of many images `MOST_IMAGES` are used, evenly spread. Statistics are means over batches, each
    batch counting the same. The last batch takes up what is left over, so that none is too small
    to measure.

    Args:
        extractor: The backbone, which stays as it is.
        images: ``(N, 3, H, W)`` in [0, 1], normal training images only; N at least 1.
        batch_size: Images per batch, fewer if there are fewer.
        image_size: Height and width that they are resized to first; None leaves them.

    Returns:
        The copy, in evaluation mode.
    """
    images = images[:: -(-len(images) // MOST_IMAGES)]
    extractor = copy.deepcopy(extractor).eval()
    norms = [m for m in extractor.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a running mean over all batches since the reset
        norm.train()
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (extractor.mean, extractor.std))
    with torch.no_grad():
        for batch in images.tensor_split(max(1, len(images) // batch_size)):
            batch = batch if image_size is None else resize(batch, image_size)
            extractor((batch - mean) / std)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return extractor.eval()
