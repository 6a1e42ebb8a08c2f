"""What both levels minimise: half cross entropy, half Dice (section V)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SMOOTHING = 1.0
"""In pixels. It makes Dice 0 where an empty target is met by an empty map."""


def segmentation_loss(logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Loss of each image; differentiable twice.

    Cross entropy is a mean over pixels. Dice is ``1 - (2 sum(pt) + 1) / (sum(p) + sum(t) + 1)``
    of the probabilities ``p`` and targets ``t`` of an image.

    Args:
        logits: ``(N, H, W)``.
        targets: ``(N, H, W)`` float, 0 or 1.
        valid: ``(N, H, W)`` bool, the pixels that count; None for all.

    Returns:
        ``(N,)``, at least 0; lower is better.
    """
    entropy = F.softplus(logits) - logits * targets
    probabilities = torch.sigmoid(logits)
    if valid is None:
        mean = entropy.mean(dim=(1, 2))
    else:
        inside = valid.to(logits.dtype)
        mean = (entropy * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2)).clamp(min=1)
        probabilities, targets = probabilities * inside, targets * inside
    shared = (probabilities * targets).sum(dim=(1, 2))
    total = (probabilities + targets).sum(dim=(1, 2))
    dice = 1 - (2 * shared + _SMOOTHING) / (total + _SMOOTHING)
    return (mean + dice) / 2
