"""A CSV file that lists images, masks and labels."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from autosearch.data.index import Index, Sample, SplitName
from autosearch.data.layouts.contract import Layout
from autosearch.data.members import nfc, spelled
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError, DataError

COLUMNS = ("path", "mask", "label", "type", "split", "group", "category")
"""Columns that a CSV dataset may have; ``path`` and one of ``label`` and ``type`` are needed."""

_LABELS = {"0": False, "normal": False, "good": False, "1": True, "anomalous": True}


def index_csv(file: Path, category: str) -> Index:
    """Index the rows of a CSV file; paths in it are relative to its folder.

    Raises:
        ConfigError: The file has categories, and not this one.
        DataError: The file is wrong; names the line.
    """
    rows = list(_rows(file))
    known = _categories(rows)
    if known:
        rows = [row for row in rows if row.category == nfc(category)]
        if not rows:
            raise ConfigError("dataset.category", category, f"one of {', '.join(known)}")
    samples: dict[Path, Sample] = {}
    slashed: list[str] = []
    for row in rows:
        sample = row.sample(slashed)
        if sample.path in samples:
            raise row.error(f"{row.cells['path']} stands there twice", "remove one row")
        samples[sample.path] = sample
    if not samples:
        raise DataError(file, "has no rows", "add one row per image")
    ordered = tuple(samples[path] for path in sorted(samples))
    name = nfc(category) if known else file.stem
    return Index(file.parent, name, ordered, notes=tuple(_backslash_notes(file, slashed)))


def csv_categories(file: Path) -> list[str]:
    """Names of the categories in a CSV file, sorted; empty if it has no such column.

    Raises:
        DataError: The file is wrong.
    """
    return _categories(_rows(file))


def _categories(rows: Iterable[_Row]) -> list[str]:
    return sorted({row.category for row in rows if "category" in row.cells})


@dataclass(frozen=True)
class _Row:
    """One row of a file: its line number and its stripped cells by column."""

    file: Path
    number: int
    cells: dict[str, str]

    @property
    def category(self) -> str:
        return nfc(self.cells.get("category", ""))

    def error(self, problem: str, remedy: str) -> DataError:
        return DataError(self.file, f"line {self.number}: {problem}", remedy)

    def sample(self, slashed: list[str]) -> Sample:
        """The image, or an error that names the line; ``slashed`` gets paths with backslashes."""
        cells = self.cells
        if not cells["path"]:
            raise self.error("path is empty", "name the image")
        label, kind = cells.get("label", "").lower(), nfc(cells.get("type", ""))
        if label not in _LABELS and (label or not kind):
            raise self.error(f"label is {label!r}", f"use one of {', '.join(_LABELS)}")
        anomalous = _LABELS[label] if label else kind != NORMAL
        if kind and anomalous == (kind == NORMAL):
            raise self.error(f"label {label} contradicts type {kind}", "correct one")
        split = self._split()
        path = self._path(cells["path"], slashed)
        masks = (self._path(cells["mask"], slashed),) if cells.get("mask") else ()
        kind = (kind or "anomaly") if anomalous else NORMAL
        return Sample(path, masks, kind, split, nfc(cells.get("group") or cells["path"]))

    def _split(self) -> SplitName | None:
        cell = self.cells.get("split", "")
        for name in get_args(SplitName):
            if cell == name:
                return name  # type: ignore[no-any-return]
        if cell:
            allowed = ", ".join(get_args(SplitName))
            raise self.error(f"split is {cell!r}", f"use {allowed}, or leave it empty")
        return None

    def _path(self, cell: str, slashed: list[str]) -> Path:
        """The file that a cell names, as it is spelled on the disk."""
        path = self._inside(cell)
        if cell.isascii() and "\\" not in cell:
            return path
        if (found := spelled(path)) is not None:
            return found
        if "\\" not in cell:
            return path
        other = cell.replace("\\", "/")
        if (found := spelled(self._inside(other))) is None:
            problem = f"path {cell!r} has backslashes, and there is no file {other!r} either"
            raise self.error(problem, "name a file below the folder of the CSV file, with slashes")
        slashed.append(f"line {self.number}: {cell}")
        return found

    def _inside(self, cell: str) -> Path:
        """A path within the folder of the file, so that one from elsewhere opens nothing else."""
        inside = Path(cell)
        if inside.is_absolute() or ".." in inside.parts or "\0" in cell:
            remedy = "name a file below the folder of the CSV file, relative to it"
            raise self.error(f"path {cell!r} leads elsewhere", remedy)
        return self.file.parent / inside


def _backslash_notes(file: Path, slashed: list[str]) -> Iterator[Note]:
    if slashed:
        kind = "has paths with backslashes, which are read as slashes"
        yield Note(file, kind, "write slashes", f"{len(slashed)} paths, the first on {slashed[0]}")


def _rows(file: Path) -> Iterator[_Row]:
    """The rows, after a check of the header."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restkey="", restval="")
            header = [(name or "").strip() for name in reader.fieldnames or []]
            # A misspelt column would otherwise be ignored, and images of one object leak.
            unknown = sorted(set(header) - set(COLUMNS))
            if unknown or "path" not in header or not {"label", "type"} & set(header):
                raise DataError(
                    file,
                    f"has the columns {', '.join(header) or '(none)'}",
                    f"use path, one of label and type, and nothing outside {', '.join(COLUMNS)}",
                )
            reader.fieldnames = header
            for cells in reader:
                if "" in cells:
                    row = _Row(file, reader.line_num, {})
                    raise row.error("more cells than columns", "quote it")
                stripped = {name: cell.strip() for name, cell in cells.items()}
                yield _Row(file, reader.line_num, stripped)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(file, f"is not a CSV file ({error})", "save it as UTF-8 CSV") from error


CSV = Layout(
    "csv",
    "a CSV file with the columns path, mask, label, type, split, group, category",
    lambda place: place.suffix.lower() == ".csv" and place.is_file(),
    index_csv,
    csv_categories,
    single=True,
)
