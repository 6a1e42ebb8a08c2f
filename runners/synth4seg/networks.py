"""U-Nets for both levels: one finds defects, one says where to paste them."""

from __future__ import annotations

from collections.abc import Mapping

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from autosearch.errors import WeightsError

ENCODERS = ("tf_efficientnet_lite0", "resnet18")
"""Models of timm that an encoder can be; the paper has the second."""

LOCATION_BIAS = 3.0
"""Logit of a fresh location net: 0.95 everywhere, above every sensible threshold."""


class UNet(nn.Module):
    """A U-Net (Ronneberger et al., 2015) whose way down is a classifier of timm.

    Images may have any size from 32 pixels on: the way up meets the sizes of the way down.

    Args:
        encoder: One of `ENCODERS`.
        width: Channels of the deepest block on the way up; each next one has half, so at least 16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str, width: int) -> None:
        super().__init__()
        channels = [width // 2**depth for depth in range(5)]
        self.network = smp.Unet(f"tu-{encoder}", encoder_weights=None, decoder_channels=channels)
        expected = self.network.encoder.model.pretrained_cfg
        for name in ("mean", "std"):
            values = torch.tensor(expected[name]).view(3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """``(N, 3, H, W)`` in [0, 1] to ``(N, H, W)`` logits; higher is more anomalous."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits[:, 0]

    @property
    def last(self) -> nn.Conv2d:
        """The layer that makes the logits."""
        layer: nn.Conv2d = self.network.segmentation_head[0]
        return layer


def make_unet(
    encoder: str,
    state: Mapping[str, Tensor] | None,
    seed: int,
    bias: float = 0.0,
    width: int = 256,
) -> UNet:
    """Make a U-Net on the CPU; the global generator stays as it was.

    Args:
        encoder: One of `ENCODERS`.
        state: Tensors of the whole timm model, copied; None for random ones.
        seed: Of all that ``state`` does not hold.
        bias: Of the logits.
        width: See `UNet`.

    Raises:
        WeightsError: The tensors are not those of the model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(encoder, width)
    nn.init.constant_(_bias(network), bias)
    if state is not None:
        _load(network.network.encoder.model, encoder, state)
    return network


def make_location_net(
    encoder: str, state: Mapping[str, Tensor] | None, seed: int, width: int = 256
) -> UNet:
    """Make a U-Net whose sigmoid starts at 0.95 on every pixel, so that no place is favoured.

    Arguments and errors are those of `make_unet`.
    """
    network = make_unet(encoder, state, seed, LOCATION_BIAS, width)
    nn.init.zeros_(network.last.weight)
    return network


def _bias(network: UNet) -> Tensor:
    bias = network.last.bias
    if bias is None:
        raise TypeError("the last layer of a U-Net has no bias")
    return bias


def _load(model: nn.Module, encoder: str, state: Mapping[str, Tensor]) -> None:
    """Load the part of a classifier's tensors that the encoder has; it lacks the head."""
    own = model.state_dict()
    try:
        model.load_state_dict({name: state[name] for name in own})
    except (KeyError, RuntimeError) as error:
        first = " ".join(str(error).split())[:300]
        raise WeightsError(f"not the weights of {encoder}: {first}") from error
