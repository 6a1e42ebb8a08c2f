"""What GLASS minimises: cross entropy, and focal loss on the hardest patches of images.

Section 3.4 of the paper; focal loss after Lin et al., "Focal Loss for Dense Object Detection",
with the smoothing of the released code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_GAMMA = 2.0
_SMOOTHING = 1e-5
_QUANTILE_LIMIT = 1 << 24
"""Elements that every version of `torch.quantile` accepts."""


def binary_loss(logits: Tensor, anomalous: bool) -> Tensor:
    """Mean cross entropy of ``(n,)`` logits that should all say anomalous, or all normal."""
    return F.softplus(-logits if anomalous else logits).mean()


def quantile(values: Tensor, q: float) -> Tensor:
    """Quantile of all values, linear between them; a scalar without gradient.

    Of more than 16,777,216 values, as many as fit are looked at, evenly spread.
    """
    flat = values.detach().flatten()
    step = -(-len(flat) // _QUANTILE_LIMIT)
    return torch.quantile(flat[::step], q)


def hardest(scores: Tensor, targets: Tensor, q: float) -> Tensor:
    """Choose the patches that are furthest from their targets (OHEM).

    Args:
        scores: ``(n,)`` probabilities of being anomalous.
        targets: ``(n,)`` of 0 and 1.
        q: Share of patches to leave out; 0 keeps all.

    Returns:
        ``(n,)`` bool: the squared error is at least its ``q`` quantile.
    """
    errors = (scores.detach() - targets).square()
    return errors >= quantile(errors, q)


def focal_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean focal loss of probabilities, ``-(1 - p)^2 ln p`` of the smoothed right answer's ``p``.

    Args:
        scores: ``(n,)`` probabilities of being anomalous, n at least 1.
        targets: ``(n,)`` of 0 and 1.
    """
    anomalous = targets.to(scores.dtype).clamp(_SMOOTHING, 1 - _SMOOTHING)
    normal = (1 - targets.to(scores.dtype)).clamp(_SMOOTHING, 1 - _SMOOTHING)
    right = anomalous * scores + normal * (1 - scores) + _SMOOTHING
    # Smoothing lifts a certain right answer a hair above 1.
    return (-((1 - right) ** _GAMMA) * right.log()).mean()
