"""JSON, CSV and XML files that tell of images: read with errors of one line, and safely."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any
from xml.parsers import expat

from autosearch.data.members import spelled
from autosearch.errors import DataError

_PICTURE_PLACES = (".", "images", "..", "../images")
"""Where images lie as seen from the file that names them, the likeliest first."""


def read_json(file: Path) -> Any:
    """What a JSON file holds; not to be changed.

    Raises:
        DataError: It cannot be read.
    """
    try:
        state = file.stat()
        return _parsed(file, state.st_mtime_ns, state.st_size)
    except (ValueError, RecursionError) as error:
        remedy = "export it anew"
        raise DataError(file, f"is no JSON file ({_first_line(error)})", remedy) from error
    except OSError as error:
        raise DataError(file, f"cannot be opened ({error.strerror})", "restore it") from error


@lru_cache(maxsize=2)
def _parsed(file: Path, time: int, size: int) -> Any:
    """Kept, since a layout is recognised by what is read again right after."""
    return json.loads(file.read_text(encoding="utf-8-sig"))


def forget() -> None:
    """Let go of what was read; annotations of a large dataset are large, too."""
    _parsed.cache_clear()


def number(file: Path, value: Any, what: str) -> float:
    """A finite number from a JSON or XML file.

    Raises:
        DataError: It is none.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not isfinite(found):
        raise DataError(file, f"{what} is {str(value)[:40]!r}, no number", "export it anew")
    return found


def size_of(file: Path, width: Any, height: Any, what: str) -> tuple[int, int] | None:
    """Width and height of an image as a file states them; None where it states neither.

    Raises:
        DataError: They are no whole numbers of pixels.
    """
    if width is None and height is None:
        return None
    found = tuple(number(file, value, f"the size of {what}") for value in (width, height))
    if any(side < 1 or side != int(side) for side in found):
        problem = f"the size of {what} is {found[0]:g}x{found[1]:g} pixels"
        raise DataError(file, problem, "export it anew")
    return int(found[0]), int(found[1])


def read_rows(file: Path, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and stripped cells of the rows of a dataset's own CSV file.

    Raises:
        DataError: It is no CSV file, or lacks a column.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            if missing := set(needed) - set(reader.fieldnames or ()):
                problem = f"has no column {', '.join(sorted(missing))}"
                raise DataError(file, problem, "restore the file of the dataset")
            for row in reader:
                yield reader.line_num, {key: (row[key] or "").strip() for key in needed}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(file, f"is not a CSV file ({error})", "restore it") from error


def inside(file: Path, folder: Path, name: str, where: str) -> Path:
    """A path within a folder, so that a file from elsewhere opens nothing else.

    Raises:
        DataError: The name leads out of the folder, or is none.
    """
    path = Path(name)
    if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
        problem = f"{where}: path {name!r} leads elsewhere"
        raise DataError(file, problem, "name a file below the folder of the dataset")
    return folder / path


def picture(file: Path, name: str, where: str, extra: Iterable[str] = ()) -> Path:
    """The image that an annotation file names.

    Args:
        file: The annotation file.
        name: As it calls the image, with slashes or backslashes.
        where: Which entry, for the error.
        extra: Folders, as seen from that of the file, to look into first.

    Raises:
        DataError: There is no such image below the file's folder or the one above.
    """
    name = name.replace("\\", "/")
    for place in (*extra, *_PICTURE_PLACES):
        folder = (file.parent / place).resolve()
        if (found := spelled(inside(file, folder, name, where))) is not None and found.is_file():
            return found
    raise DataError(
        file, f"{where}: the image {name!r} is not there", "put it beside the file, or into images"
    )


@dataclass(frozen=True)
class Element:
    """Start of an element of an XML file, with its line."""

    tag: str
    given: dict[str, str]
    line: int


def read_xml(file: Path) -> list[Element]:
    """The elements of an XML file in their order, without text.

    Raises:
        DataError: It is no XML file, or declares a document type: entities could be defined there
            that grow without bounds or open other files.
    """
    found: list[Element] = []
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        remedy = "remove its DOCTYPE, which no export of CVAT has"
        raise DataError(file, "declares a document type", remedy)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, given: found.append(
        Element(tag, given, parser.CurrentLineNumber)
    )
    try:
        parser.Parse(file.read_bytes(), True)
    except expat.ExpatError as error:
        raise DataError(file, f"is no XML file ({error})", "export it anew") from error
    except OSError as error:
        raise DataError(file, f"cannot be opened ({error.strerror})", "restore it") from error
    return found


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
