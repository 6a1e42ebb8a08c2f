"""How good a network is on the validation images, as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .losses import segmentation_loss

_TOGETHER = 8
"""Images in one pass."""


@torch.no_grad()
def validate(
    network: nn.Module, images: Tensor, masks: Tensor, device: str, valid: Tensor | None = None
) -> tuple[float, float]:
    """Score a network, which is left in evaluation mode.

    Args:
        network: ``(N, 3, H, W)`` images to ``(N, H, W)`` logits.
        images: ``(M, 3, H, W)`` in [0, 1], M at least 1.
        masks: ``(M, H, W)``, not 0 on anomalous pixels.
        device: Of the network.
        valid: ``(M, H, W)`` bool, the pixels that count; None for all.

    Returns:
        Mean loss over images, lower is better, and intersection over union of all images together,
        of probabilities from one half upwards; 1 if nothing is anomalous and nothing found.
    """
    network.eval()
    losses, counts = [], torch.zeros(2, dtype=torch.int64)
    for rows in torch.split(torch.arange(len(images)), _TOGETHER):
        logits, wanted = network(images[rows].to(device)), masks[rows].to(device) != 0
        inside = None if valid is None else valid[rows].to(device)
        losses.append(segmentation_loss(logits, wanted.float(), inside).cpu())
        found = logits >= 0
        if inside is not None:
            found, wanted = found & inside, wanted & inside
        counts += torch.stack([(found & wanted).sum(), (found | wanted).sum()]).cpu()
    shared, together = counts.tolist()
    return torch.cat(losses).mean().item(), shared / together if together else 1.0
