"""The built-in demo set: three real textures with synthetic defects, made once from a seed."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from autosearch.data.defects import DEFECTS, Grey, damage
from autosearch.data.records import NORMAL
from autosearch.files import cache_dir, is_closed, no_cache

_log = logging.getLogger(__name__)

VERSION = 1
"""Part of the folder's name; to be raised whenever other images would be made."""

CATEGORIES = ("brick", "grass", "gravel")
SIDE = 256
TRAIN, TEST, PER_TYPE = 40, 10, 8

_CROP = 208
# Columns of the photographs from which test images come. Training images come from the columns to
# their right, so that no test background was ever trained on. (Rows would not do: the bricks
# grow towards the bottom.)
_TEST_COLUMNS = 224
_MAX_TURN = 3.0

_README = """\
autosearch demo set, version {version}, seed {seed}

The defects are SYNTHETIC, drawn by a program. The backgrounds are crops of real photographs.
Figures measured here say that the software works, and nothing about a real inspection task.

Photographs: skimage.data.brick, .grass and .gravel of scikit-image, all CC0 (brick and gravel from
CC0Textures, grass by linolafett on DeviantArt).
Normal images: crops of {crop} x {crop} pixels, turned by up to {turn} degrees, flipped, varied in
brightness, with slight noise, enlarged to {side} x {side}. All test images come from the left
{columns} columns of a photograph and all training images from the rest. Crops of one part overlap,
so validation images taken from the training images resemble those that remain.
Defects: blur (smeared texture), cut_paste (foreign or enlarged texture), scratch (line) and
stain (soft spot). A mask marks the pixels that the defect covers by at least one half.
"""


def demo_root(seed: int = 0) -> Path:
    """Folder of the demo set in the MVTec AD layout, made on first use.

    Safe to call from several processes at once: each builds its own folder, the first to finish
    moves it into place, and the others use that one.

    Where the user's cache cannot be written to, it is made among the temporary files.

    Args:
        seed: Of all crops and defects. The same seed gives the same pixels.

    Raises:
        ConfigError: It can be made nowhere.
    """
    name = f"v{VERSION}-seed{seed}"
    try:
        return _made(cache_dir("demo", name), seed)
    except OSError as error:
        if not is_closed(error):
            raise
        closed = no_cache(error)
    try:
        folder = _own_folder()
    except OSError:
        raise closed from None
    if not (folder / name).is_dir():
        _log.warning("%s cannot be written to; the demo is made in %s", closed.value, folder)
    return _made(folder / name, seed)


def _own_folder() -> Path:
    """A folder among the temporary files that nobody else can have put there, or write to."""
    folder = Path(tempfile.gettempdir(), f"autosearch-demo-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return Path(tempfile.mkdtemp(prefix="autosearch-demo-"))
    return folder


def _made(root: Path, seed: int) -> Path:
    """The folder itself, which holds the demo set."""
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = root.with_name(f".{root.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        _make(temporary, seed)
        temporary.rename(root)
    except OSError:
        # A full folder cannot be replaced, so a lost race ends here with the winner in place.
        if not root.is_dir():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def photographs() -> dict[str, Grey]:
    """The ``(512, 512)`` grey source photographs in [0, 1], which scikit-image installs."""
    # Imported here because it takes long and most uses of this package never need it.
    from skimage import data

    return {name: np.asarray(getattr(data, name)(), np.float64) / 255 for name in CATEGORIES}


def _make(root: Path, seed: int) -> None:
    photos = photographs()
    for number, category in enumerate(CATEGORIES):
        base = root / category
        for i in range(TRAIN):
            rng = np.random.default_rng([seed, number, 0, i])
            _save(base / "train" / NORMAL / f"{i:03}.png", _normal(photos[category], False, rng))
        for i in range(TEST):
            rng = np.random.default_rng([seed, number, 1, i])
            _save(base / "test" / NORMAL / f"{i:03}.png", _normal(photos[category], True, rng))
        for j, kind in enumerate(DEFECTS):
            for i in range(PER_TYPE):
                rng = np.random.default_rng([seed, number, 2 + j, i])
                image = _normal(photos[category], True, rng)
                image, mask = damage(kind, image, rng, _foreign(photos, category, i, rng))
                _save(base / "test" / kind / f"{i:03}.png", image)
                _save(base / "ground_truth" / kind / f"{i:03}_mask.png", mask)
    text = _README.format(
        version=VERSION, seed=seed, crop=_CROP, turn=_MAX_TURN, side=SIDE, columns=_TEST_COLUMNS
    )
    (root / "README.txt").write_text(text, encoding="utf-8")


def _normal(photo: Grey, test: bool, rng: np.random.Generator) -> Grey:
    """A varied crop of the test or the training columns, ``(SIDE, SIDE)`` in [0, 1]."""
    area = photo[:, :_TEST_COLUMNS] if test else photo[:, _TEST_COLUMNS:]
    turn = np.deg2rad(rng.uniform(-_MAX_TURN, _MAX_TURN))
    image = _crop(area, _CROP, turn, rng)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.5:
        image = image[::-1]
    image = image * rng.uniform(0.93, 1.07) + rng.uniform(-0.03, 0.03)
    return np.clip(image + rng.normal(0, 0.008, image.shape), 0, 1)


def _crop(area: Grey, side: float, turn: float, rng: np.random.Generator) -> Grey:
    """A square of ``side`` pixels, turned by ``turn`` radians, wholly inside the area."""
    cos, sin = np.cos(turn), np.sin(turn)
    reach = side / 2 * (abs(cos) + abs(sin))
    centre = [rng.uniform(reach, length - reach) for length in area.shape]
    scale = side / SIDE
    matrix = scale * np.array([[cos, -sin], [sin, cos]])
    # Pixel centres lie at halves: output index SIDE / 2 - 1/2 is the middle of the square.
    offset = np.array(centre) - 0.5 - matrix @ np.full(2, SIDE / 2 - 0.5)
    return np.asarray(
        ndimage.affine_transform(area, matrix, offset, (SIDE, SIDE), order=1, mode="nearest")
    )


def _foreign(photos: dict[str, Grey], category: str, i: int, rng: np.random.Generator) -> Grey:
    """Texture to paste: another photograph, or every other time the same one enlarged."""
    others = [name for name in CATEGORIES if name != category]
    if i % 2:
        return _crop(photos[category], _CROP / 2.5, np.deg2rad(rng.uniform(60, 90)), rng)
    return _crop(photos[others[rng.integers(len(others))]], _CROP, rng.uniform(0, np.pi / 4), rng)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(image * 255.0).astype(np.uint8)).save(path)
