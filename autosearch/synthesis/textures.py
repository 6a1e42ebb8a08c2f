"""Where foreign texture comes from: a folder of images, the normal images themselves, or formulas.

Textures are 8-bit inside, as the files are, so that Pillow's operations apply to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data import Size, is_image, read_image
from autosearch.errors import ConfigError, DataError
from autosearch.files import sha256
from autosearch.synthesis.operations import Operation, vary
from autosearch.synthesis.procedural import ProceduralTextures

_CACHE_BYTES = 2**29
_TILES = (2, 4, 8)
"""Tiles per side of a rearranged image, one of these at a time."""


class TextureSource(Protocol):
    """Gives 8-bit RGB pictures that cover the height and width asked for."""

    def picture(self, size: Size, rng: np.random.Generator) -> Image.Image:
        """Draw one picture, at least that large."""


def open_textures(
    source: str, normals: NDArray[np.float32], foregrounds: NDArray[np.bool_] | None = None
) -> TextureSource:
    """Open a texture source by name.

    Args:
        source: ``self``, ``procedural``, or the path of a folder of images.
        normals: ``(N, 3, H, W)`` float32 RGB in [0, 1], which ``self`` takes its pieces from.
        foregrounds: ``(N, H, W)`` bool, where ``self`` may take them from; everywhere if absent.

    Raises:
        ConfigError: ``self`` without any normal image.
        DataError: The folder is missing or has no image.
    """
    if source == "procedural":
        return ProceduralTextures()
    if source == "self":
        return SelfTextures(normals, foregrounds)
    return FolderTextures(Path(source))


def draw_texture(
    source: TextureSource,
    size: Size,
    operations: int,
    rng: np.random.Generator,
    known: Mapping[str, Operation] | None = None,
) -> NDArray[np.float32]:
    """A texture from a source, varied by random operations, then cropped in the middle.

    Args:
        source: Where the picture comes from.
        size: Height and width in pixels.
        operations: How many different ones are applied.
        rng: Source of every draw.
        known: Operations to draw from; those of GLASS if absent.

    Returns:
        ``(3, H, W)`` float32 RGB in [0, 1], in steps of 1/255.
    """
    height, width = size
    picture = vary(source.picture(size, rng), operations, rng, known)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    values = np.asarray(picture.crop((left, top, left + width, top + height)), dtype=np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1)) / np.float32(255)


class FolderTextures:
    """Images of a folder and all its subfolders, such as the Describable Textures Dataset.

    Decoded images are kept until half a gigabyte is in use. As every image is as likely as any
    other, a cache that drops nothing is as good as one that drops the oldest.

    Args:
        root: The folder. Files and folders whose names start with a dot are left out.

    Raises:
        DataError: The folder is missing or has no image.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise DataError(
                root, "is no folder of textures", "name one, or use procedural or self"
            )
        self.paths = sorted(
            path
            for path in root.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(root).parts)
            and is_image(path)
        )
        if not self.paths:
            raise DataError(root, "holds no image", "name a folder of textures")
        self._root = root
        self._cache: dict[tuple[int, Size], Image.Image] = {}
        self._room = _CACHE_BYTES

    def sha256(self) -> str:
        """SHA-256 over the names of all images, relative to the folder, and their bytes."""
        lines = (f"{p.relative_to(self._root).as_posix()}\0{sha256(p)}" for p in self.paths)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def picture(self, size: Size, rng: np.random.Generator) -> Image.Image:
        """One of the images, resized in proportion until it just covers the size.

        Raises:
            DataError: The file cannot be read.
        """
        key = int(rng.integers(len(self.paths))), size
        if key in self._cache:
            return self._cache[key]
        picture = _covering(_to_picture(read_image(self.paths[key[0]])), size)
        self._room -= 3 * picture.width * picture.height
        if self._room >= 0:
            self._cache[key] = picture
        return picture


class SelfTextures:
    """Mosaics of pieces of the normal images, each from a random place and turned at random.

    Args:
        normals: ``(N, 3, H, W)`` float32 RGB in [0, 1], N at least 1.
        foregrounds: ``(N, H, W)`` bool: pieces have their middle there, so that plain background
            is not passed for texture. An empty one counts as full.

    Raises:
        ConfigError: There is no normal image.
    """

    def __init__(
        self, normals: NDArray[np.float32], foregrounds: NDArray[np.bool_] | None = None
    ) -> None:
        if not len(normals):
            raise ConfigError("texture_source", "self", "another source where no image is normal")
        self._normals, self._foregrounds = normals, foregrounds

    def picture(self, size: Size, rng: np.random.Generator) -> Image.Image:
        """A mosaic of one of the images; the drawn number of tiles is that of the shorter side."""
        index = int(rng.integers(len(self._normals)))
        image = self._normals[index]
        height, width = image.shape[1:]
        short = min(size)
        tiles = min(int(rng.choice(_TILES)), short)
        # Tiles overhang where they do not divide the size; the mosaic is cut at the end.
        side = -(-short // tiles)
        rows, columns = (-(-length * tiles // short) for length in size)
        reach = min(side, height, width)
        middles = self._middles(index, rows * columns, rng)
        corners = np.clip(middles - reach // 2, 0, (height - reach, width - reach))
        mosaic = np.empty((rows * side, columns * side, 3), dtype=np.uint8)
        for place, (top, left) in enumerate(corners):
            piece = image[:, top : top + reach, left : left + reach].transpose(1, 2, 0)
            piece = np.rot90(piece[:: rng.choice((-1, 1))], int(rng.integers(4)))
            if reach < side:
                piece = np.pad(piece, ((0, side - reach), (0, side - reach), (0, 0)), "symmetric")
            row, column = divmod(place, columns)
            band = mosaic[row * side : (row + 1) * side]
            band[:, column * side : (column + 1) * side] = np.rint(piece * 255)
        return Image.fromarray(mosaic[: size[0], : size[1]])

    def _middles(self, index: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """``(count, 2)`` random rows and columns on an image's foreground."""
        shape = self._normals.shape[2:]
        if self._foregrounds is None or not self._foregrounds[index].any():
            return rng.integers(0, shape, (count, 2))
        places = np.flatnonzero(self._foregrounds[index])
        return np.stack(np.unravel_index(rng.choice(places, count), shape), axis=1)


def _to_picture(image: NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8))


def _covering(picture: Image.Image, size: Size) -> Image.Image:
    wanted = size[::-1]
    scale = max(want / have for want, have in zip(wanted, picture.size, strict=True))
    width, height = (
        max(want, round(have * scale)) for want, have in zip(wanted, picture.size, strict=True)
    )
    return picture.resize((width, height), Image.Resampling.BILINEAR)
