"""What GLASS trains: a linear adaptor and a discriminator of single patch vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOMENTUM = 0.1
"""Share of a batch in the running statistics of the discriminator's norm."""


class Scale(nn.Module):
    """Multiplies by one factor, which is set and not learnt.

    Attributes:
        factor: A scalar, 1 at first.
    """

    factor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        """Any shape to the same."""
        return vectors * self.factor


def make_adaptor(channels: int, layers: int, generator: torch.Generator) -> nn.Sequential:
    """Linear layers without activations between them, as in the released code; maybe none.

    Args:
        channels: Length of the vectors, which stays.
        layers: How many.
        generator: Source of the weights (Xavier normal).

    Returns:
        A module from ``(..., channels)`` to the same shape. It is affine, so the adapted mean of
        vectors is the mean of the adapted vectors.
    """
    return nn.Sequential(*(_linear(channels, channels, True, generator) for _ in range(layers)))


class Discriminator(nn.Module):
    """Tells vectors of normal patches from others by one hidden layer.

    Args:
        channels: Length of the vectors.
        hidden: Width of the hidden layer.
        generator: Source of the weights (Xavier normal).

    Attributes:
        first: To the hidden layer, before its norm.
        norm: Batch norm over all vectors of a call.
    """

    def __init__(self, channels: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = _linear(channels, hidden, True, generator)
        self.norm = nn.BatchNorm1d(hidden, momentum=MOMENTUM)
        self.activation = nn.LeakyReLU(0.2)
        self.last = _linear(hidden, 1, False, generator)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(n, channels)`` to ``(n,)`` logits; higher is more anomalous."""
        return self.head(self.norm(self.first(vectors)))

    def head(self, normed: Tensor) -> Tensor:
        """Logits ``(n,)`` of what the norm returned, ``(n, hidden)``."""
        logits: Tensor = self.last(self.activation(normed))
        return logits[:, 0]


def _linear(inputs: int, outputs: int, bias: bool, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias, device="meta").to_empty(device="cpu")
    nn.init.xavier_normal_(layer.weight, generator=generator)
    if bias:
        bound = 1 / math.sqrt(inputs)
        nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer
