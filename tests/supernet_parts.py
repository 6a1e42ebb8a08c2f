"""Tensors to try supernets with."""

import torch
from torch import Tensor

from autosearch.backbones.supernets.ofa_layout import random_state

LITE = "tf_efficientnet_lite0"
"""The teacher."""


def lively_state(width: float) -> dict[str, Tensor]:
    """Random tensors that all matter: no neutral norms, no identity transforms."""
    state = random_state(width, seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in state.items():
        if name.endswith(("_matrix", "bias", "running_mean")):
            tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
        elif ".bn." in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return state


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))
