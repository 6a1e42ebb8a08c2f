"""The mask of what is looked at, as one of the files of an exported model."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REGION = "region.png"
"""White where images are looked at; black there counts nowhere."""


def mask_file(mask: NDArray[np.bool_]) -> bytes:
    """``(h, w)`` bool as a PNG file of one bit a pixel."""
    out = io.BytesIO()
    Image.fromarray(mask).save(out, "PNG")
    return out.getvalue()


def mask_in(content: bytes) -> NDArray[np.bool_]:
    """What `mask_file` wrote.

    Raises:
        ValueError: It is no such file.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as picture:
            if picture.mode != "1":
                raise ValueError(f"{REGION} of mode {picture.mode}")
            return np.array(picture, dtype=bool)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{REGION}: {error}") from None
