"""The transformer of UniAD: features to the features that normal images would have."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .attention import Attention, linear, neighbour_mask


@dataclass(frozen=True)
class TransformerSettings:
    """What the transformer is made of.

    Attributes:
        hidden: Channels of a token.
        heads: Of every attention, a divisor of ``hidden``.
        encoder_layers: How many.
        decoder_layers: How many.
        feedforward: Width of the hidden layer behind every attention.
        dropout: Share of numbers that are left out in training.
        neighbour_mask: Side of the square around a cell that it may not look at; None for none.
        jitter_scale: See `jitter`.
        jitter_probability: Of a batch to be jittered in training.
    """

    hidden: int = 256
    heads: int = 8
    encoder_layers: int = 4
    decoder_layers: int = 4
    feedforward: int = 1024
    dropout: float = 0.1
    neighbour_mask: int | None = 7
    jitter_scale: float = 20.0
    jitter_probability: float = 1.0


def jitter(tokens: Tensor, scale: float) -> Tensor:
    """Add noise to features, in proportion to their length.

    Of a token ``x`` of ``C`` channels every channel gets ``scale * |x| / C`` times a standard
    normal number, with the Euclidean norm ``|x|``: the noise is about ``scale / sqrt(C)`` times as
    long as the token.

    Args:
        tokens: ``(N, L, C)``.
        scale: Of the noise.
    """
    length: Tensor = torch.linalg.vector_norm(tokens, dim=2, keepdim=True)
    return tokens + torch.randn_like(tokens) * (scale / tokens.shape[2]) * length


class Position(nn.Module):
    """A learnt vector for every cell: half of it for its column, half for its row.

    Args:
        grid: Rows and columns.
        channels: Of a vector, even.
    """

    def __init__(self, grid: tuple[int, int], channels: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(grid[0], channels // 2))
        self.columns = nn.Parameter(torch.rand(grid[1], channels // 2))

    def forward(self) -> Tensor:
        """``(L, channels)``, row by row."""
        height, width = len(self.rows), len(self.columns)
        columns = self.columns[None].expand(height, -1, -1)
        rows = self.rows[:, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=2).flatten(0, 1)


class EncoderLayer(nn.Module):
    """Tokens look at each other; norms come behind the sums.

    Args:
        settings: Of the transformer.
    """

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.attention = Attention(hidden, settings.heads, settings.dropout)
        self.feedforward = _feedforward(settings)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(2))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, tokens: Tensor, position: Tensor, allowed: Tensor | None) -> Tensor:
        """``(N, L, hidden)`` to the same."""
        placed = tokens + position
        seen = self.attention(placed, placed, tokens, allowed)
        tokens = self.norms[0](tokens + self.dropout(seen))
        tokens = self.norms[1](tokens + self.dropout(self.feedforward(tokens)))
        return tokens


class DecoderLayer(nn.Module):
    """Learnt queries look at what the encoder made, then at what the layer before made.

    What goes on to the next layer is made of this layer's own queries, so nothing of the features
    passes without having been looked for.

    Args:
        cells: How many there are, each with a query.
        settings: Of the transformer.
    """

    def __init__(self, cells: int, settings: TransformerSettings) -> None:
        super().__init__()
        hidden, heads, dropout = settings.hidden, settings.heads, settings.dropout
        self.queries = nn.Parameter(torch.randn(cells, hidden))
        self.to_memory = Attention(hidden, heads, dropout)
        self.to_previous = Attention(hidden, heads, dropout)
        self.feedforward = _feedforward(settings)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, previous: Tensor, memory: Tensor, position: Tensor, allowed: Tensor | None
    ) -> Tensor:
        """Two times ``(N, L, hidden)``, of the layer before and of the encoder, to the same."""
        tokens: Tensor = self.queries.expand(memory.shape[0], -1, -1)
        looks = ((self.to_memory, memory), (self.to_previous, previous))
        for (attention, source), norm in zip(looks, self.norms, strict=False):
            seen = attention(tokens + position, source + position, source, allowed)
            tokens = norm(tokens + self.dropout(seen))
        ended: Tensor = self.norms[2](tokens + self.dropout(self.feedforward(tokens)))
        return ended


class Reconstruction(nn.Module):
    """Features of a grid to reconstructed ones, which anomalies should not survive.

    All first weights are draws from torch's global generator.

    Args:
        channels: Of the features.
        grid: Rows and columns.
        settings: Of the transformer.

    Raises:
        Infeasible: Some cell may look at nothing; see `neighbour_mask`.
    """

    allowed: Tensor | None

    def __init__(
        self, channels: int, grid: tuple[int, int], settings: TransformerSettings
    ) -> None:
        super().__init__()
        self._grid, self._settings, cells = grid, settings, grid[0] * grid[1]
        side = settings.neighbour_mask
        allowed = None if side is None else neighbour_mask(grid, side)
        self.register_buffer("allowed", allowed, persistent=False)
        self.position = Position(grid, settings.hidden)
        self.first = linear(channels, settings.hidden)
        self.encoder = nn.ModuleList(
            EncoderLayer(settings) for _ in range(settings.encoder_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderLayer(cells, settings) for _ in range(settings.decoder_layers)
        )
        self.norm = nn.LayerNorm(settings.hidden)
        self.last = linear(settings.hidden, channels)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, channels, h, w)`` to the same."""
        tokens = features.flatten(2).transpose(1, 2)
        if self.training:
            tokens = self._jittered(tokens)
        tokens, position = self.first(tokens), self.position()
        for layer in self.encoder:
            tokens = layer(tokens, position, self.allowed)
        memory = tokens
        for layer in self.decoder:
            tokens = layer(tokens, memory, position, self.allowed)
        made: Tensor = self.last(self.norm(tokens))
        return made.transpose(1, 2).reshape(features.shape)

    def norm_flops(self) -> int:
        """FLOPs of layer norms for one image, which `autosearch.backbones.profile` does not see.

        They are 2 per number, as it counts batch norms.
        """
        settings, cells = self._settings, self._grid[0] * self._grid[1]
        norms = 2 * settings.encoder_layers + 3 * settings.decoder_layers + 1
        return norms * 2 * cells * settings.hidden

    def _jittered(self, tokens: Tensor) -> Tensor:
        settings = self._settings
        if not settings.jitter_scale or torch.rand(()) >= settings.jitter_probability:
            return tokens
        return jitter(tokens, settings.jitter_scale)


def _feedforward(settings: TransformerSettings) -> nn.Sequential:
    return nn.Sequential(
        linear(settings.hidden, settings.feedforward),
        nn.ReLU(),
        nn.Dropout(settings.dropout),
        linear(settings.feedforward, settings.hidden),
    )
