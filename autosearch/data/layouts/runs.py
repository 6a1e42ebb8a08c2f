"""Masks as lengths of runs, in the packings of COCO and Label Studio."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 2**28
"""More are no photograph; a damaged file may claim any number."""


def coco_runs(text: str) -> tuple[int, ...]:
    """Lengths of runs from COCO's compressed text.

    Each sign holds five bits and whether more follow, lowest first, in two's complement; from the
    fourth on, a number is the difference to the last but one before it (``rleFrString`` of
    cocoapi's ``maskApi.c``).

    Raises:
        ValueError: The text ends within a number, or has a sign that stands for none.
    """
    runs: list[int] = []
    value = shift = 0
    for sign in text.encode("utf-8", "replace"):
        bits = sign - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a sign that is none of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return tuple(runs)


def runs_of(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """Lengths of runs of a mask along its rows, the first of which is outside."""
    flat = mask.ravel()
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *ends, flat.size])
    return tuple(int(n) for n in (lengths if not flat[0] else [0, *lengths]))


def checked_runs(runs: Sequence[int], pixels: int) -> tuple[int, ...]:
    """Lengths of runs that fill an image.

    Raises:
        ValueError: They do not, or are no whole numbers.
    """
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in runs):
        raise ValueError("run lengths that are no whole numbers")
    if sum(runs) != pixels or pixels > _MOST_PIXELS:
        raise ValueError(f"run lengths of {sum(runs)} pixels, for {pixels}")
    return tuple(runs)


def brush_mask(packed: Sequence[int], width: int, height: int) -> NDArray[np.bool_]:
    """The mask that Label Studio packs as an RGBA image, of which alpha counts.

    A stream of bits, highest first: 32 with the number of values, 5 with the bits of a value less
    1, four times 4 with sizes of lengths less 1; then blocks of 1 bit (whether one value is
    repeated), 2 (which of the sizes), the length less 1, and the values (``rle-pack`` of
    @thi.ng).

    Args:
        packed: Bytes.
        width: Of the image.
        height: Of the image.

    Returns:
        ``(height, width)`` bool.

    Raises:
        ValueError: They are cut off, or of an image of another size.
    """
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    sizes = [bits.take(4) + 1 for _ in range(4)]
    if count != 4 * width * height or count > 4 * _MOST_PIXELS:
        raise ValueError(f"a brush of {count} values, for {width}x{height} pixels of four each")
    values = np.zeros(count, dtype=np.uint32)
    at = 0
    while at < count:
        repeated = bits.take(1)
        end = at + bits.take(sizes[bits.take(2)]) + 1
        if end > count:
            raise ValueError("a brush with too many values")
        if repeated:
            values[at:end] = bits.take(word)
        else:
            values[at:end] = [bits.take(word) for _ in range(at, end)]
        at = end
    return np.asarray(values.reshape(height, width, 4)[..., 3] > 0)


class _Bits:
    """Reads numbers from a stream of bits."""

    def __init__(self, packed: Sequence[int]) -> None:
        if any(isinstance(n, bool) or not isinstance(n, int) or not 0 <= n < 256 for n in packed):
            raise ValueError("a brush that is no list of bytes")
        self._bytes, self._at = bytes(packed), 0

    def take(self, size: int) -> int:
        """The number in the next bits."""
        end = self._at + size
        if end > 8 * len(self._bytes):
            raise ValueError("a brush that is cut off")
        first, last = self._at // 8, -(-end // 8)
        self._at = end
        chunk = int.from_bytes(self._bytes[first:last], "big")
        return (chunk >> (8 * last - end)) & ((1 << size) - 1)
