"""Finds the images of a dataset: an index of paths, read from folders or from a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from autosearch.data.demo import demo_root
from autosearch.data.images import is_image
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError, DataError
from autosearch.files import user_path
from autosearch.spec import DatasetSpec

SplitName = Literal["train", "val", "test"]

COLUMNS = ("path", "mask", "label", "type", "split", "group", "category")
"""Columns that a CSV dataset may have; ``path`` and one of ``label`` and ``type`` are needed."""

_LABELS = {"0": False, "normal": False, "good": False, "1": True, "anomalous": True}


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, not yet opened.

    Attributes:
        path: The image file.
        mask_path: Its mask file, if there is one.
        type: ``anomaly_type``, `NORMAL` where defect-free.
        split: Where the dataset itself puts the image; None leaves it to the split rule.
        group: ``group_id``: images of one physical object share it and stay together.
    """

    path: Path
    mask_path: Path | None
    type: str
    split: SplitName | None
    group: str

    @property
    def normal(self) -> bool:
        """Whether the image is defect-free."""
        return self.type == NORMAL


@dataclass(frozen=True)
class Index:
    """All images of one category, sorted by path.

    Attributes:
        root: Folder to which names in records are relative.
        category: Name of the category.
        samples: The images.
        orphan_masks: Mask files that belong to no image.
        empty_folders: Folders of an anomaly type without images.
    """

    root: Path
    category: str
    samples: tuple[Sample, ...]
    orphan_masks: tuple[Path, ...] = ()
    empty_folders: tuple[Path, ...] = ()

    def relative(self, path: Path) -> str:
        """The path as records name it: relative to the root, with forward slashes."""
        inside = path.is_relative_to(self.root)
        return (path.relative_to(self.root) if inside else path).as_posix()


def open_index(dataset: DatasetSpec) -> Index:
    """Index a dataset: the built-in demo, a CSV file, or folders laid out like MVTec AD.

    Args:
        dataset: ``root`` None means the demo; a ``root`` ending in ``.csv`` a CSV file; any other
            ``root`` the folder above the categories. ``~`` is expanded.

    Raises:
        ConfigError: The category is not there, or a named dataset has no root.
        DataError: The root or its normal images are not there, or the CSV file is wrong.
    """
    if dataset.root is None:
        if dataset.name != "demo":
            raise ConfigError("dataset.root", None, f"the folder or .csv of {dataset.name!r}")
        return _index_folders(demo_root(dataset.seed), dataset.category)
    root = user_path(dataset.root, "dataset.root").resolve()
    if root.suffix.lower() == ".csv" and root.is_file():
        return _index_csv(root, dataset.category)
    if not root.is_dir():
        raise DataError(
            root,
            "no such folder or .csv file",
            "set dataset.root to an existing one, or to null for the built-in demo",
        )
    return _index_folders(root, dataset.category)


def categories(root: Path) -> list[str]:
    """Names of the folders under ``root`` that hold ``train/good``, sorted."""
    return sorted(folder.parent.parent.name for folder in root.glob(f"*/train/{NORMAL}"))


def _index_folders(root: Path, category: str) -> Index:
    """Index ``<root>/<category>`` with ``train/good``, ``test/<type>``, ``ground_truth/<type>``.

    Only ``test/good`` has a stated split. The other normal images and all anomalous ones are left
    to the split rule, which draws validation images from both.
    """
    found = categories(root)
    if not found:
        raise DataError(
            root,
            f"no category folder with train/{NORMAL} inside",
            "set dataset.root to the folder above the categories",
        )
    if category not in found:
        raise ConfigError("dataset.category", category, f"one of {', '.join(found)}")
    base = root / category
    samples = [_alone(root, path) for path in _images(base / "train" / NORMAL)]
    if not samples:
        raise DataError(base / "train" / NORMAL, "holds no image", "add normal images")
    samples += [_alone(root, path, split="test") for path in _images(base / "test" / NORMAL)]
    masks = set(filter(is_image, (base / "ground_truth").glob("*/*")))
    empty = []
    for folder in _folders(base / "test"):
        if folder.name == NORMAL:
            continue
        by_stem = {path.stem: path for path in sorted(masks) if path.parent.name == folder.name}
        paths = _images(folder)
        if not paths:
            empty.append(folder)
        for path in paths:
            mask = by_stem.get(f"{path.stem}_mask", by_stem.get(path.stem))
            masks.discard(mask or path)
            samples.append(_alone(root, path, mask, folder.name))
    samples.sort(key=lambda sample: sample.path)
    return Index(root, category, tuple(samples), tuple(sorted(masks)), tuple(empty))


def _index_csv(file: Path, category: str) -> Index:
    """Index the rows of a CSV file; paths in it are relative to its folder."""
    rows = list(_csv_rows(file))
    known = sorted({row["category"] for _, row in rows if "category" in row})
    if known:
        rows = [(number, row) for number, row in rows if row["category"] == category]
        if not rows:
            raise ConfigError("dataset.category", category, f"one of {', '.join(known)}")
    samples: dict[Path, Sample] = {}
    for number, row in rows:
        sample = _csv_sample(file, number, row)
        if sample.path in samples:
            raise _row_error(file, number, f"{row['path']} stands there twice", "remove one row")
        samples[sample.path] = sample
    if not samples:
        raise DataError(file, "has no rows", "add one row per image")
    ordered = tuple(samples[path] for path in sorted(samples))
    return Index(file.parent, category if known else file.stem, ordered)


def _csv_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and stripped cells of each row, after a check of the header."""
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
            for row in reader:
                if "" in row:
                    raise _row_error(file, reader.line_num, "more cells than columns", "quote it")
                yield reader.line_num, {name: cell.strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(file, f"is not a CSV file ({error})", "save it as UTF-8 CSV") from error


def _csv_sample(file: Path, number: int, row: dict[str, str]) -> Sample:
    """One row as a sample, or an error that names its line."""
    if not row["path"]:
        raise _row_error(file, number, "path is empty", "name the image")
    label, kind = row.get("label", "").lower(), row.get("type", "")
    if label not in _LABELS and (label or not kind):
        raise _row_error(file, number, f"label is {label!r}", f"use one of {', '.join(_LABELS)}")
    anomalous = _LABELS[label] if label else kind != NORMAL
    if kind and anomalous == (kind == NORMAL):
        raise _row_error(file, number, f"label {label} contradicts type {kind}", "correct one")
    split = _csv_split(file, number, row.get("split", ""))
    path = _csv_path(file, number, row["path"])
    mask = _csv_path(file, number, row["mask"]) if row.get("mask") else None
    kind = (kind or "anomaly") if anomalous else NORMAL
    return Sample(path, mask, kind, split, row.get("group") or row["path"])


def _csv_path(file: Path, number: int, cell: str) -> Path:
    """A path within the folder of the CSV file, so that one from elsewhere opens nothing else."""
    inside = Path(cell)
    if inside.is_absolute() or ".." in inside.parts or "\0" in cell:
        remedy = "name a file below the folder of the CSV file, relative to it"
        raise _row_error(file, number, f"path {cell!r} leads elsewhere", remedy)
    return file.parent / inside


def _csv_split(file: Path, number: int, cell: str) -> SplitName | None:
    for name in get_args(SplitName):
        if cell == name:
            return name  # type: ignore[no-any-return]
    if cell:
        allowed = ", ".join(get_args(SplitName))
        raise _row_error(file, number, f"split is {cell!r}", f"use {allowed}, or leave it empty")
    return None


def _row_error(file: Path, number: int, problem: str, remedy: str) -> DataError:
    return DataError(file, f"line {number}: {problem}", remedy)


def _alone(
    root: Path,
    path: Path,
    mask: Path | None = None,
    kind: str = NORMAL,
    split: SplitName | None = None,
) -> Sample:
    """An image that is a group of its own."""
    return Sample(path, mask, kind, split, path.relative_to(root).as_posix())


def _images(folder: Path) -> list[Path]:
    return sorted(filter(is_image, _listing(folder)))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _listing(folder) if path.is_dir() and path.name[0] != ".")


def _listing(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()
