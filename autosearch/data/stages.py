"""What is done about the object on the canvas, after images have come onto it. Free of torch.

`Framing` preprocesses photographs at the size of their files, once for a whole study. Here it is
the input of a detector that is changed, so that maps of one trial with it and of another without
are of the same pixels.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from autosearch.data.boxes import Box, Size
from autosearch.data.images import resize_mask
from autosearch.data.objects import find_object
from autosearch.data.records import ImageSet, made_once

_Values = TypeVar("_Values", bound=np.generic)
Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stage = Literal["mask", "centre"]

CANVAS_STAGES: dict[Stage, str] = {
    "mask": "its surroundings are made background",
    "centre": "its box is moved to the middle, on background",
}

_KEPT = 64 << 20
"""Bytes of masks of objects that a process keeps, to find none of them twice."""
_known: dict[tuple[Size, bytes], tuple[NDArray[np.uint8] | None, Box]] = {}
"""Bits of masks and boxes of objects by picture; no bits where none stands out."""
_made: dict[tuple[int, CanvasStage], ImageSet] = {}
"""Staged sets, for as long as those that they were made of are in use."""


class Placement(NamedTuple):
    """What is shown of a picture on the canvas, and where.

    Attributes:
        shown: ``(H, W)`` bool, true on what is shown, where it lay before; None for all.
        down: By how many rows it is moved.
        across: By how many columns it is moved.
    """

    shown: Mask | None = None
    down: int = 0
    across: int = 0

    def at(self, size: Size) -> Placement:
        """The same of ``(h, w)``, moved by the nearest whole number of its pixels."""
        if self.shown is None or self.shown.shape == size:
            return self
        height, width = self.shown.shape
        down, across = round(self.down * size[0] / height), round(self.across * size[1] / width)
        return Placement(resize_mask(self.shown, size), down, across)

    def carried(self, values: NDArray[_Values], beyond: float) -> NDArray[_Values]:
        """``(..., H, W)`` with what is shown in its new place, and one value elsewhere."""
        if self.shown is None:
            return values
        return _moved(np.where(self.shown, values, values.dtype.type(beyond)), self, 1, beyond)

    def back(self, values: Pixels) -> Pixels:
        """A map ``(H, W)`` of the changed picture as that of the picture before.

        Where nothing was shown, the lowest value of what was.
        """
        if self.shown is None:
            return values
        home = _moved(values, self, -1, 0)
        home[~self.shown] = home[self.shown].min()
        return home


@dataclass(frozen=True)
class CanvasStage:
    """One way to preprocess pictures on the canvas.

    An object is what stands out from the border; see `autosearch.data.objects.find_object`. A
    picture without any stays as it is.

    Attributes:
        stage: One of `CANVAS_STAGES`.
        background: What stands where the picture is not shown, in [0, 1].
    """

    stage: Stage
    background: float = 0.0

    def seen(self, image: Pixels, again: bool = False) -> tuple[Pixels, Placement]:
        """What a detector is given of a picture, and how to take its map back.

        Args:
            image: ``(3, H, W)`` RGB in [0, 1].
            again: Whether this process will be asked about the same picture again.
        """
        place = self._place(image, again)
        return place.carried(image, self.background), place

    def back(self, values: Pixels, place: Placement) -> Pixels:
        """A map ``(H, W)`` of what was seen as that of the picture; see `Placement.back`."""
        return place.back(values)

    def all_seen(self, images: Sequence[Pixels] | Pixels) -> tuple[Pixels, list[Placement]]:
        """The same of several pictures that will be asked about again, as ``(N, 3, H, W)``."""
        pairs = [self.seen(image, again=True) for image in images]
        return np.stack([seen for seen, _ in pairs]), [place for _, place in pairs]

    def of(self, images: ImageSet) -> ImageSet:
        """A set of preprocessed pictures: in memory, or if it is large in a file, made once.

        Masks, regions and ``valid`` move along, masks of another size by the nearest number of
        their own pixels. What is not shown does not count, and nothing is anomalous there; an
        image whose defects are all hidden is anomalous without a mask.
        """
        key = (id(images), self)
        if key not in _made:
            _made[key] = self._of(images)
            weakref.finalize(images, _made.pop, key, None)
        return _made[key]

    def found_in(self, images: ImageSet) -> Mask:
        """``(N,)`` bool, true for pictures in which there is an object."""
        with _pool() as pool:
            found = pool.map(lambda image: _object(image) is not None, images.pixels)
            return np.fromiter(found, dtype=bool, count=len(images))

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"stage": self.stage, "background": self.background}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> CanvasStage:
        """From what `to_plain` gave.

        Raises:
            ValueError: It is no such thing.
        """
        try:
            stage, background = plain["stage"], float(plain["background"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"stage: {error}") from None
        if stage not in CANVAS_STAGES or not 0 <= background <= 1:
            raise ValueError(f"stage {stage!r} on background {background}")
        return cls(stage, background)

    def _place(self, image: Pixels, again: bool) -> Placement:
        found = _object(image, again)
        if found is None:
            return Placement()
        mask, box = found
        if self.stage == "mask":
            return Placement(mask)
        shown = np.zeros(mask.shape, dtype=bool)
        shown[box.slices] = True
        top, left = ((whole - own) // 2 for whole, own in zip(mask.shape, box.size, strict=True))
        return Placement(shown, top - box.top, left - box.left)

    def _of(self, images: ImageSet) -> ImageSet:
        count, size = len(images), (images.masks.shape[1], images.masks.shape[2])
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "pixels": (images.pixels.shape, np.float32),
            "masks": ((count, *size), np.bool_),
            "valid": ((count, *size), np.bool_),
        }
        if images.regions is not None:
            shapes["regions"] = ((count, *size), np.int32)

        def fill(arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, Any]:
            def one(i: int) -> bool:
                arrays["pixels"][i], place = self.seen(images.pixels[i], again=True)
                own = place.at(size)
                everywhere = np.ones(size, dtype=bool)
                valid = everywhere if images.valid is None else images.valid[i]
                inside = own.carried(valid, 0)
                # Where all that is shown is of no account, it is given as though it were.
                arrays["valid"][i] = inside if inside.any() else own.carried(everywhere, 0)
                arrays["masks"][i] = own.carried(images.masks[i], 0)
                if images.regions is not None:
                    arrays["regions"][i] = own.carried(images.regions[i], 0)
                return bool(images.masks[i].any()) and not arrays["masks"][i].any()

            with _pool() as pool:
                hidden = list(pool.map(one, range(count)))
            known = images.marked
            return {
                "types": list(images.types),
                "paths": list(images.paths),
                "groups": list(images.groups),
                "made": images.synthetic.tolist(),
                "unmarked": [
                    not marked or lost for marked, lost in zip(known, hidden, strict=True)
                ],
            }

        return made_once([images], f"stage {sorted(self.to_plain().items())}", shapes, fill)


def _object(image: Pixels, again: bool = True) -> tuple[Mask, Box] | None:
    """Mask ``(H, W)`` and box of the object on a picture; None where none stands out."""
    size = (image.shape[1], image.shape[2])
    if not again:
        return None if (new := find_object(image)) is None else (new.mask, new.box)
    pixels = np.ascontiguousarray(image).data
    key = (size, hashlib.blake2b(pixels, digest_size=16).digest())
    found = _known.get(key)
    if found is None:
        if len(_known) * size[0] * size[1] // 8 > _KEPT:
            _known.clear()
        new = find_object(image)
        found = (None, Box.whole(size)) if new is None else (np.packbits(new.mask), new.box)
        _known[key] = found
    bits, box = found
    if bits is None:
        return None
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).astype(bool), box


def _moved(
    values: NDArray[_Values], place: Placement, sign: int, beyond: float
) -> NDArray[_Values]:
    """``(..., H, W)`` moved as a placement says, or with the sign -1 back again."""
    down, across = sign * place.down, sign * place.across
    whole = Box.whole((values.shape[-2], values.shape[-1]))
    target = whole.moved(down, across).meet(whole)
    found = np.full_like(values, beyond)
    found[..., *target.slices] = values[..., *target.moved(-down, -across).slices]
    return found


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))
