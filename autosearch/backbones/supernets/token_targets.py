"""What a plain transformer teaches: tokens of some of its blocks, one for each of four maps.

The supernet's maps of 1/8, 1/16 (two) and 1/32 each learn one block, the shallow ones the shallow
blocks. Tokens of all blocks lie on one grid, of 1/14 or 1/16 of the image, say: they are resized
onto the map that learns them.
"""

from __future__ import annotations

from collections.abc import Sequence

from autosearch.errors import ConfigError

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the depth, the blocks that are learnt unless others are asked for."""

LEARNT_AT = (8, 16, 16, 32)
"""Reductions of the maps that learn blocks, shallow ones first."""


def blocks_at(shares: Sequence[float] | None, depth: int) -> tuple[int, ...]:
    """Find blocks by their share of the depth.

    Args:
        shares: Each above 0 and at most 1; None for `SHARES`.
        depth: Number of blocks.

    Returns:
        Numbers of blocks, counted from 0, rising: for a share the one nearest to share times
        depth, counted from 1. Those that fall together are one.

    Raises:
        ConfigError: If shares are none, more than there are maps, or out of range.
    """
    asked = SHARES if shares is None else tuple(shares)
    if not 1 <= len(asked) <= len(LEARNT_AT) or not all(0 < share <= 1 for share in asked):
        raise ConfigError(
            "blocks",
            list(asked),
            f"one to {len(LEARNT_AT)} shares of the depth, above 0 and at most 1: "
            f"block i of {depth}, counted from 0, is (i + 1) / {depth}",
        )
    return tuple(sorted({max(1, round(share * depth)) - 1 for share in asked}))


def block_of_each_map(number: int) -> tuple[int, ...]:
    """Give blocks to the maps that learn them, in order: with fewer blocks, neighbours share one.

    Args:
        number: Of blocks, 1 to 4.

    Returns:
        For each entry of `LEARNT_AT` the place of its block among those.
    """
    return tuple(place * number // len(LEARNT_AT) for place in range(len(LEARNT_AT)))
