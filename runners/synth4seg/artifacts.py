"""What a training leaves to look at: curves, and location maps as they came about."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .curve import Epoch
from .looks import LocationMaps

_SIDE, _GAP, _LETTERS = 120, 4, 22


def curves_json(curve: Sequence[Epoch], weights_learnt: bool, outer_steps: bool) -> bytes:
    """Curves over epochs, see `Detector.artifacts`.

    Args:
        curve: One entry an epoch.
        weights_learnt: Whether source weights are shown.
        outer_steps: Whether hypergradients are.
    """
    panels = [
        _panel("loss", inner=[e.inner for e in curve], outer=[e.outer for e in curve]),
        _panel("validation IoU", **{"IoU at 0.5": [e.iou for e in curve]}),
    ]
    if weights_learnt and curve:
        names = curve[0].source_weights
        weights = {name: [e.source_weights[name] for e in curve] for name in names}
        panels.append(_panel("source weights", **weights))
    if outer_steps:
        panels += [
            _panel("hypergradient", length=[e.hypergradient for e in curve]),
            _panel("terms after the first", mean=[e.terms for e in curve]),
            _panel(
                "share of the outer steps",
                **{
                    "cut short": [e.diverged for e in curve],
                    "scale capped": [e.capped for e in curve],
                },
            ),
        ]
    return json.dumps({"x": "epoch", "panels": panels}, allow_nan=False).encode()


def locations_jpg(pixels: NDArray[np.float32], looks: Sequence[LocationMaps]) -> bytes:
    """One row an image: the image, then its location map after ever more epochs.

    Args:
        pixels: ``(N, 3, H, W)`` in [0, 1], all training images.
        looks: At least one, all of the same images. Black is 0, pale yellow 1.

    Returns:
        A JPEG file.
    """
    rows = []
    for row, index in enumerate(looks[0].images):
        photo = Image.fromarray((pixels[index].transpose(1, 2, 0) * 255).round().astype(np.uint8))
        size = _tile_size(photo)
        tiles = [_tile(photo, size, "")]
        for look in looks:
            grey = Image.fromarray((look.maps[row] * 255).round().astype(np.uint8))
            heat = ImageOps.colorize(grey, black="#000003", mid="#bc3754", white="#fcffa4")
            tiles.append(_tile(heat, size, f"epoch {look.epoch}" if row == 0 else ""))
        rows.append(np.concatenate(tiles, axis=1))
    out = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(out, "JPEG", quality=88)
    return out.getvalue()


def _panel(title: str, **series: Sequence[float]) -> dict[str, Any]:
    finite = {
        name: [float(value) if math.isfinite(value) else None for value in values]
        for name, values in series.items()
    }
    return {"title": title, "series": finite}


def _tile_size(photo: Image.Image) -> tuple[int, int]:
    """Width and height of a photo whose longer side is that of a tile."""
    width, height = (max(1, round(_SIDE * side / max(photo.size))) for side in photo.size)
    return width, height


def _tile(image: Image.Image, size: tuple[int, int], text: str) -> NDArray[np.uint8]:
    tile = Image.new("RGB", (size[0] + _GAP, size[1] + _GAP), "white")
    tile.paste(image.resize(size, Image.Resampling.BILINEAR))
    font = ImageFont.load_default(_LETTERS)
    ImageDraw.Draw(tile).text((4, 3), text, "white", font, stroke_width=2, stroke_fill="black")
    return np.asarray(tile)
