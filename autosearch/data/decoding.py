"""Which files count as images, by name and by content, and decoding them safely.

Free of torch on purpose: prediction with an exported model uses the same functions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from autosearch.data.notes import Note
from autosearch.errors import DataError

EXTENSIONS = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff",
        ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k",
    }
)  # fmt: skip
"""File name endings (lower case) that count as images."""

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP", "PPM", "GIF", "JPEG2000")
"""Formats by content, whatever a file is called: Pillow would run another program for some.

Its reader of JPEG reads MPO as well.
"""

Orientation = Literal["upright", "stored"]

_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error)
"""What Pillow raises where a file is damaged, besides what says that it is too large."""

_UNREADABLE = (*_BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning)

_ACROSS = range(5, 9)
"""EXIF orientations under which width and height change places."""

_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes an EXIF orientation."""


@dataclass(frozen=True)
class Decoded:
    """A file's first page.

    Attributes:
        path: The file.
        picture: Turned upright, or as it is stored.
        turn: EXIF orientation, 1 to 8; 1 where the file states none.
        pages: Pages, or frames, in the file.
        lossless: Whether values are as they were when somebody painted them.
    """

    path: Path
    picture: Image.Image
    turn: int
    pages: int
    lossless: bool

    def page_notes(self) -> tuple[Note, ...]:
        """What is left out of a file with several pages."""
        if self.pages == 1:
            return ()
        remedy = "save the page that counts in a file of its own"
        kind = "has several pages, of which the first alone is read"
        return (Note(self.path, kind, remedy, f"{self.pages} pages"),)


def is_image(path: Path) -> bool:
    """Whether a member of a folder has the name of an image, and so has to be one.

    Names that begin with a dot are what file managers leave beside images.

    Raises:
        DataError: It is no file that could be opened, or its name cannot be written down.
    """
    if path.suffix.lower() not in EXTENSIONS or path.name.startswith("."):
        return False
    _check_name(path)
    if not path.is_file():
        raise DataError(path, "is no file, though its name says so", "mend or remove it")
    return True


def holds_image(path: Path) -> bool:
    """Whether a file begins as an image does, whatever it is called; only its head is read.

    Raises:
        DataError: It does, and its name cannot be written down.
    """
    # A device or a pipe would be read for ever.
    if not path.is_file():
        return False
    try:
        with Image.open(path, formats=_FORMATS):
            pass
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    except _BROKEN:
        return False
    _check_name(path)
    return True


def content_of(path: Path) -> bytes:
    """All of a file.

    Raises:
        DataError: It is none, or cannot be opened.
    """
    with _opened(path) as file:
        return file.read()


def shape_of(path: Path, orientation: Orientation = "upright") -> tuple[int, int]:
    """Height and width of a file, without decoding it.

    Args:
        path: The file.
        orientation: See `decode`.

    Raises:
        DataError: It cannot be opened as an image.
    """
    try:
        with _opened(path) as file, Image.open(file, formats=_FORMATS) as opened:
            width, height = opened.size
            across = _turn(opened) in _ACROSS and orientation == "upright"
            return (width, height) if across else (height, width)
    except _UNREADABLE as error:
        raise _refusal(path, error) from error


def decode(
    path: Path, content: bytes | None = None, orientation: Orientation = "upright"
) -> Decoded:
    """Decode the first page of a file.

    Args:
        path: The file.
        content: Its bytes, where they have been read already.
        orientation: ``upright`` turns it as its EXIF orientation says, ``stored`` does not.

    Raises:
        DataError: The file cannot be read, or is too large to be trusted.
    """
    try:
        file = path if content is None else BytesIO(content)
        with Image.open(file, formats=_FORMATS) as opened:
            # Looked up before the pixels are read: Pillow forgets it then where it has used it.
            turn = _turn(opened)
            pages = _pages(opened, path, content)
            lossless = _lossless(opened, path, content)
            opened.load()
            return Decoded(path, _turned(opened, turn, orientation), turn, pages, lossless)
    except _UNREADABLE as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> DataError:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        problem = f"too many pixels to be opened safely ({error})"
        return DataError(path, problem, "cut or shrink it")
    problem = f"cannot be read as an image ({error})"
    if isinstance(error, UnidentifiedImageError):
        problem = "is not of any known image format"
    return DataError(path, problem, "replace or remove the file")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # A device or a pipe would be read for ever.
        if path.exists() and not path.is_file():
            raise DataError(path, "is no file", "name an image")
        file = path.open("rb")
    except OSError as error:
        raise DataError(
            path, f"cannot be opened ({error.strerror})", "restore or remove the file"
        ) from error
    with file:
        yield file


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise DataError(path, "has a name or a folder that is not in UTF-8", "rename it") from None


def _turn(picture: Image.Image) -> int:
    turn = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return turn if isinstance(turn, int) and turn in range(1, 9) else 1


def _pages(picture: ImageFile, path: Path, content: bytes | None) -> int:
    # What follows the photograph in an MPO file is its preview, or what the other eye saw.
    if picture.format == "MPO":
        return 1
    if picture.format not in ("TIFF", "GIF"):
        return getattr(picture, "n_frames", 1)
    # These are leafed through, which a damaged page ends in any way; the first must not suffer.
    with Image.open(path if content is None else BytesIO(content), formats=_FORMATS) as other:
        try:
            return int(getattr(other, "n_frames", 1))
        except (*_BROKEN, TypeError, LookupError, Image.DecompressionBombError):
            return 1


def _lossless(picture: ImageFile, path: Path, content: bytes | None) -> bool:
    if picture.format == "WEBP":
        return _webp_lossless(path.read_bytes() if content is None else content)
    if picture.format == "TIFF":
        return picture.info.get("compression") not in ("jpeg", "tiff_jpeg", "webp")
    return picture.format not in ("JPEG", "MPO", "JPEG2000")


def _webp_lossless(content: bytes) -> bool:
    """Whether the first picture in a WebP file is of its lossless kind."""
    place = 12
    while place + 8 <= len(content):
        kind = content[place : place + 4]
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        # A frame of an animation holds chunks of its own behind 16 bytes; all are of even length.
        place += 24 if kind == b"ANMF" else 8 + size + size % 2
    return False


def _turned(picture: ImageFile, turn: int, orientation: Orientation) -> Image.Image:
    if orientation == "upright":
        return ImageOps.exif_transpose(picture)
    # Pillow has turned a TIFF file by itself when it read the pixels.
    if turn == 1 or picture.format != "TIFF":
        return picture.copy()
    return picture.transpose(_TURNED_BACK[turn])
