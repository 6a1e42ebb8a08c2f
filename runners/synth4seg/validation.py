"""How good a network is on the validation images, as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .losses import segmentation_loss

_TOGETHER = 8
"""Images in one pass."""


@torch.no_grad()
def validate(
    network: nn.Module, images: Tensor, masks: Tensor, device: str
) -> tuple[float, float]:
    """Score a network, which is left in evaluation mode.

    Args:
        network: ``(N, 3, H, W)`` images to ``(N, H, W)`` logits.
        images: ``(M, 3, H, W)`` in [0, 1], M at least 1.
        masks: ``(M, H, W)``, not 0 on anomalous pixels.
        device: Of the network.

    Returns:
        Mean loss over images, lower is better, and intersection over union of all images together,
        of probabilities from one half upwards; 1 if nothing is anomalous and nothing found.
    """
    network.eval()
    losses, counts = [], torch.zeros(2, dtype=torch.int64)
    parts = torch.split(images, _TOGETHER), torch.split(masks, _TOGETHER)
    for some, wanted in zip(*parts, strict=True):
        logits, wanted = network(some.to(device)), wanted.to(device) != 0
        losses.append(segmentation_loss(logits, wanted.float()).cpu())
        found = logits >= 0
        counts += torch.stack([(found & wanted).sum(), (found | wanted).sum()]).cpu()
    shared, together = counts.tolist()
    return torch.cat(losses).mean().item(), shared / together if together else 1.0
