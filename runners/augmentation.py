"""Normal images once more for a memory bank: brighter and darker, turned, mirrored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from autosearch.contracts import ParameterInfo
from autosearch.errors import Infeasible

KEY = "bank_augment"

_BRIGHTER = 0.1
"""Share by which brightness changes."""

Change = Callable[[Tensor], Tensor]
"""Of the last two axes, ``(..., H, W)`` to the same."""


def _brightened(factor: float) -> Change:
    def change(images: Tensor) -> Tensor:
        # Where pixels count is no matter of brightness.
        return images if images.dtype == torch.bool else (images * factor).clamp(0, 1)

    return change


def _turned(quarters: int) -> Change:
    return lambda images: images.rot90(quarters, (-2, -1))


def _mirrored(axis: int) -> Change:
    return lambda images: images.flip(axis)


_CHANGES: dict[str, tuple[Change, ...]] = {
    "brightness": (_brightened(1 - _BRIGHTER), _brightened(1 + _BRIGHTER)),
    "half_turn": (_turned(2),),
    "quarter_turns": (_turned(1), _turned(2), _turned(3)),
    "flips": (_mirrored(-1), _mirrored(-2)),
}

PARAMETER = ParameterInfo(
    None,
    "what normal images are added to the bank again as: 10 % brighter and darker, turned by 180 "
    "or by 90, 180 and 270 degrees, mirrored",
    choices=(None, *_CHANGES),
)


def enlargement(kind: str | None, size: tuple[int, int]) -> int:
    """How many times as many images a bank is filled from.

    Args:
        kind: As of ``bank_augment``.
        size: Height and width of the input.

    Raises:
        Infeasible: Images are to be turned by 90 degrees and are not square.
    """
    if kind is None:
        return 1
    if kind == "quarter_turns" and size[0] != size[1]:
        raise Infeasible(
            f"{KEY} quarter_turns of images of {size[0]} x {size[1]} pixels, which must be square;"
            " half_turn needs no square"
        )
    return 1 + len(_CHANGES[kind])


def augmented(
    images: Tensor, kind: str | None, valid: Tensor | None = None, batch: int = 16
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images, and then each change of all of them, made when it is asked for.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        kind: As of ``bank_augment``.
        valid: ``(N, H, W)`` bool, true where pixels count; None where all do.
        batch: Images at a time.

    Yields:
        Up to ``batch`` images and where they count: ``N`` times `enlargement` images in all, the
        first ``N`` as they were given.

    Raises:
        Infeasible: As of `enlargement`.
    """
    enlargement(kind, (images.shape[-2], images.shape[-1]))
    changes: tuple[Change, ...] = (lambda images: images,)
    if kind is not None:
        changes += _CHANGES[kind]
    for change in changes:
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            yield change(images[part]), None if valid is None else change(valid[part])
