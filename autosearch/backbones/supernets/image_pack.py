"""Unlabelled images of any folder as one memory-mapped file of square crops, made once."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from autosearch.errors import DataError
from autosearch.files import cache_dir, publish, sha256, write_atomic

SIDE = 256
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".tga", ".webp", ".bmp"})
ARCHIVES = frozenset({".zip", ".pk3"})
HELD_OUT_EVERY = 40
"""Of so many images one is never trained on: held-out losses are measured on it."""

_SMALLEST = 200
_CROPS = 3
_FLAT = 6.0
_VERSION = 1


@dataclass(frozen=True)
class ImagePack:
    """Crops of many images.

    Attributes:
        crops: ``(N, 256, 256, 3)`` uint8, memory-mapped.
        training: Indices to train on.
        held_out: Indices of crops whose images are not trained on.
        images: Number of images the crops stem from.
        sources: Images per first folder below the given one.
        skipped: Files left out, by reason.
        sha256: Of the crops.
    """

    crops: NDArray[np.uint8]
    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    images: int
    sources: dict[str, int]
    skipped: dict[str, int]
    sha256: str


def pack_images(folder: Path, progress: Callable[[int, int], None] | None = None) -> ImagePack:
    """Read all images below a folder, archives in place, into the cache, unless they are there.

    An image is shrunk until its shorter side is 256 pixels, and up to three squares are cut along
    the longer one. Left out are files that cannot be read, images below 200 pixels, crops of
    nearly one colour and crops that were seen before.

    Args:
        folder: Searched with all folders below it for png, jpg, tga, webp and bmp files, and for
            zip and pk3 archives of such files.
        progress: Called with files read and files in all.

    Raises:
        DataError: If there is no folder, or no usable image in it.
    """
    if not folder.is_dir():
        raise DataError(folder, "is not a folder", "name a folder of images")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGES | ARCHIVES)
    files = [path for path in files if path.is_file()]
    path = cache_dir("images") / f"{_fingerprint(folder, files)}.u8"
    record = path.with_suffix(".json")
    if not record.exists() or not path.exists():
        packer = _Packer(folder)
        publish(path, lambda temporary: packer.write(temporary, files, progress))
        content = {**packer.record(), "sha256": sha256(path)}
        write_atomic(record, json.dumps(content))
    return _open(folder, path, json.loads(record.read_text(encoding="utf-8")))


def _open(folder: Path, path: Path, record: dict[str, object]) -> ImagePack:
    owners = np.asarray(record.pop("owners"), dtype=np.int64)
    skipped = record["skipped"]
    if not len(owners):
        raise DataError(folder, f"holds no usable image ({skipped})", "name a folder of images")
    crops = np.memmap(path, np.uint8, "r").reshape(-1, SIDE, SIDE, 3)
    held_out = owners % HELD_OUT_EVERY == 0
    if held_out.all():
        raise DataError(folder, "holds one image only", "name a folder of many images")
    return ImagePack(
        crops=crops,
        training=np.flatnonzero(~held_out),
        held_out=np.flatnonzero(held_out),
        **record,  # type: ignore[arg-type]
    )


class _Packer:
    """Writes crops and keeps count of where they come from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owners: list[int] = []
        self._sources: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._seen: set[bytes] = set()

    def record(self) -> dict[str, object]:
        return {
            "owners": self._owners,
            "images": self._sources.total(),
            "sources": dict(self._sources),
            "skipped": dict(self._skipped),
        }

    def write(
        self, target: Path, files: list[Path], progress: Callable[[int, int], None] | None
    ) -> None:
        with target.open("wb") as out:
            for done, path in enumerate(files):
                for content in self._contents(path):
                    self._add(path, content, out)
                if progress:
                    progress(done + 1, len(files))

    def _contents(self, path: Path) -> Iterator[bytes]:
        """Bytes of an image file, or of every image in an archive, in order of names."""
        try:
            if path.suffix.lower() in IMAGES:
                yield path.read_bytes()
                return
            with zipfile.ZipFile(path) as archive:
                names = sorted(archive.namelist())
                for name in (n for n in names if Path(n).suffix.lower() in IMAGES):
                    yield archive.read(name)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
            self._skipped["unreadable"] += 1

    def _add(self, path: Path, content: bytes, out: BinaryIO) -> None:
        try:
            crops = _crops(content)
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            self._skipped["unreadable"] += 1
            return
        fresh = [crop for crop in crops if crop.std((0, 1)).max() > _FLAT and self._is_new(crop)]
        if not fresh:
            self._skipped["flat or repeated" if crops else "too small"] += 1
            return
        for crop in fresh:
            out.write(crop.tobytes())
        # Crops of one image bear its number, so that all are held out or none.
        self._owners.extend([self._sources.total()] * len(fresh))
        self._sources[path.relative_to(self._folder).parts[0]] += 1

    def _is_new(self, crop: NDArray[np.uint8]) -> bool:
        digest = hashlib.blake2b(crop.tobytes(), digest_size=16).digest()
        new = digest not in self._seen
        self._seen.add(digest)
        return new


def _crops(content: bytes) -> list[NDArray[np.uint8]]:
    with Image.open(BytesIO(content)) as picture:
        if min(picture.size) < _SMALLEST:
            return []
        picture.draft("RGB", (SIDE, SIDE))  # decodes large JPEG files at a fraction of their size
        scale = SIDE / min(picture.size)
        width, height = (max(SIDE, round(side * scale)) for side in picture.size)
        # Straight to RGB, a palette with an alpha per entry raises a warning.
        plain = picture.convert("RGBA") if "transparency" in picture.info else picture
        rgb = plain.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(rgb)
    number = min(_CROPS, max(width, height) // SIDE)
    offsets = np.linspace(0, max(width, height) - SIDE, number).round().astype(int)
    if width >= height:
        return [pixels[:SIDE, at : at + SIDE] for at in offsets]
    return [pixels[at : at + SIDE, :SIDE] for at in offsets]


def _fingerprint(folder: Path, files: list[Path]) -> str:
    digest = hashlib.sha256(f"{_VERSION} {SIDE} {_SMALLEST} {_CROPS} {_FLAT}".encode())
    for path in files:
        status = path.stat()
        line = f"\n{path.relative_to(folder)} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:24]


def plain_batch(crops: NDArray[np.uint8], size: int) -> Tensor:
    """Resize whole crops.

    Args:
        crops: ``(N, 256, 256, 3)`` uint8.
        size: Side of the result.

    Returns:
        ``(N, 3, size, size)`` float32 in [0, 1], channels last.
    """
    box = (0, 0, SIDE, SIDE)
    return _to_tensor(np.stack([_cut(crop, size, box) for crop in crops]))


def augmented_batch(pack: ImagePack, number: int, size: int, draw: np.random.Generator) -> Tensor:
    """Draw training images: random crops, flips, some without colour, brightness and contrast.

    Args:
        pack: The images.
        number: Images in the batch, drawn with replacement.
        size: Side of the result.
        draw: Source of all randomness.

    Returns:
        ``(number, 3, size, size)`` float32 in [0, 1], channels last.
    """
    chosen = draw.choice(pack.training, number)
    # Sides from a quarter to the whole crop, aspect ratios from 3/4 to 4/3.
    area, aspect = draw.uniform(0.25, 1, number), draw.uniform(-1, 1, number)
    ratio = np.sqrt(4 / 3) ** aspect
    widths, heights = (np.clip(SIDE * area * r, 32, SIDE) for r in (ratio, 1 / ratio))
    lefts, tops = (draw.random(number) * (SIDE - sides) for sides in (widths, heights))
    boxes = np.stack([lefts, tops, lefts + widths, tops + heights], 1).clip(0, SIDE)
    small = [_cut(pack.crops[i], size, tuple(b)) for i, b in zip(chosen, boxes, strict=True)]
    images = _to_tensor(np.stack(small))
    flips = torch.from_numpy(draw.random((2, number)) < 0.5)
    for axis, flip in zip((2, 3), flips, strict=True):
        images[flip] = images[flip].flip(axis)
    grey = torch.from_numpy(draw.random(number) < 0.3)
    images[grey] = images[grey].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    contrast, shift = draw.uniform(0.5, 1.5, number), draw.uniform(-0.2, 0.2, number)
    kept = draw.random(number) < 0.5
    scale = torch.from_numpy(np.where(kept, 1, contrast)).float().view(-1, 1, 1, 1)
    offset = torch.from_numpy(np.where(kept, 0, shift)).float().view(-1, 1, 1, 1)
    return ((images - 0.5) * scale + (0.5 + offset)).clamp(0, 1)


def _cut(crop: NDArray[np.uint8], size: int, box: tuple[float, ...]) -> NDArray[np.uint8]:
    """Cut a box and resize it, antialiased."""
    region = (box[0], box[1], box[2], box[3])
    picture = Image.fromarray(np.ascontiguousarray(crop))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, region))


def _to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """``(N, H, W, 3)`` bytes to ``(N, 3, H, W)`` in [0, 1], which is channels last as it lies."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255)
