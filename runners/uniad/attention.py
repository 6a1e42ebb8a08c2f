"""Attention over the cells of a grid that are not neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autosearch.errors import Infeasible

_PACKED = 2**-0.5
"""Shortens the first weights of three projections to those of one that makes all three."""


def neighbour_mask(grid: tuple[int, int], side: int) -> Tensor:
    """What every cell may look at: all that lies outside of a square around it.

    Args:
        grid: Rows and columns.
        side: Of the square, odd: 7 forbids what is at most 3 rows and at most 3 columns away, 49
            cells with the cell itself, fewer at the border.

    Returns:
        ``(L, L)`` bool for the ``L`` cells row by row, True where the row may look at the column.

    Raises:
        Infeasible: Some cell may look at nothing.
    """
    reach = side // 2
    rows, columns = (_within(length, reach) for length in grid)
    near = rows[:, None, :, None] & columns[None, :, None, :]
    allowed: Tensor = ~near.reshape(grid[0] * grid[1], -1)
    if not allowed.any(dim=1).all():
        raise Infeasible(
            f"a neighbour_mask of {side} covers the grid of {grid[0]} x {grid[1]} cells, so that "
            "some could look at none; a smaller one, a smaller stride or larger images fit"
        )
    return allowed


def _within(length: int, reach: int) -> Tensor:
    """``(n, n)`` bool: pairs on an axis that are at most so far apart."""
    places = torch.arange(length)
    return (places[:, None] - places[None, :]).abs() <= reach


def linear(inputs: int, outputs: int, gain: float = 1) -> nn.Linear:
    """A layer that starts with Xavier's uniform weights, times a gain, and without a bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


class Attention(nn.Module):
    """Every token becomes a mean of others, weighted by how well they answer it.

    Weights are a softmax over ``q k / sqrt(d)`` for each of the heads, whose channels are ``d``.

    Args:
        channels: Of tokens.
        heads: How many, a divisor of the channels.
        dropout: Share of weights that are left out in training.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value = (
            linear(channels, channels, gain=_PACKED) for _ in range(3)
        )
        self.out = linear(channels, channels)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None) -> Tensor:
        """Look at other tokens.

        Args:
            query: ``(N, L, channels)``, those that look.
            key: ``(N, M, channels)``, by which they find what they look at.
            value: ``(N, M, channels)``, what they see there.
            allowed: ``(L, M)`` bool, what they may look at; None for everything.

        Returns:
            ``(N, L, channels)``.
        """
        seen = F.scaled_dot_product_attention(
            self._apart(self.query(query)),
            self._apart(self.key(key)),
            self._apart(self.value(value)),
            attn_mask=allowed,
            dropout_p=self.dropout if self.training else 0.0,
        )
        found: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return found

    def _apart(self, tokens: Tensor) -> Tensor:
        """``(N, L, channels)`` to ``(N, heads, L, d)``."""
        number, length, channels = tokens.shape
        return tokens.view(number, length, self.heads, channels // self.heads).transpose(1, 2)
