"""Normal images once more for a memory bank: brighter and darker, turned, mirrored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.contracts import ParameterInfo, passes
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


def augmented(images: Tensor, kind: str | None, device: str) -> Iterator[Tensor]:
    """Images, and then each change of all of them, made when it is asked for.

    Args:
        images: ``(N, 3, H, W)`` in [0, 1].
        kind: As of ``bank_augment``.
        device: Where they are wanted.

    Yields:
        A few images at a time: ``N`` times `enlargement` in all, the first ``N`` as they were.

    Raises:
        Infeasible: As of `enlargement`.
    """
    enlargement(kind, (images.shape[-2], images.shape[-1]))
    for change in _changes(kind):
        for part in passes(images, device):
            yield change(part)


def all_valid(valid: NDArray[np.bool_], kind: str | None) -> NDArray[np.bool_]:
    """Where the images that `augmented` makes count, from ``(N, H, W)`` bool of what was given."""
    if kind is None:
        return valid
    given = torch.from_numpy(valid.copy())
    return torch.cat([change(given) for change in _changes(kind)]).numpy()


def _changes(kind: str | None) -> tuple[Change, ...]:
    return (lambda images: images, *(_CHANGES[kind] if kind else ()))
