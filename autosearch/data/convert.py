"""A dataset of any layout, written anew as folders like MVTec AD's or as images and a CSV file."""

from __future__ import annotations

import csv
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from autosearch.data.index import Index, Sample
from autosearch.data.layouts.choose import open_index
from autosearch.data.layouts.table import COLUMNS
from autosearch.data.members import is_left_alone, nfc
from autosearch.data.originals import read_sample
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError, DataError
from autosearch.spec import DatasetSpec

Target = Literal["mvtec", "csv"]

TABLE = "dataset.csv"
"""The CSV file of a converted dataset."""

_ODD = re.compile(r"[^\w.-]+")
_LONGEST = 80


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        root: What ``dataset.root`` is to be: a folder, or a CSV file.
        category: Name of the category.
        images: How many images there are.
        masks: How many masks were written.
        lost: What the dataset said and the new one does not, one line each.
    """

    root: Path
    category: str
    images: int
    masks: int
    lost: tuple[str, ...]


def convert_dataset(
    dataset: DatasetSpec,
    to: Target,
    out: Path,
    link: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Converted:
    """Write a dataset anew. Images keep their bytes and their order, masks become 0 and 255.

    Args:
        dataset: Which one, and how its masks are read.
        to: ``mvtec`` for folders, ``csv`` for images, masks and a table that keeps groups and
            stated splits as well.
        out: Folder to write; it must not be there, or be empty. Until all is written there is
            nothing in it.
        link: Make hard links of images instead of copies.
        progress: Told about every image.

    Raises:
        ConfigError: ``out`` is in the way, or the category is not there.
        DataError: The dataset cannot be read, or a type can be no name of a folder.
    """
    _check_free(out)
    if len(dataset.categories) > 1:
        raise ConfigError("dataset.category", list(dataset.categories), "one at a time to convert")
    index = open_index(dataset)
    if index.faults:
        raise index.faults[0]
    if any(out.is_relative_to(sample.path.parent) for sample in index.samples):
        raise ConfigError("out", str(out), "a folder outside the folders of the images")
    shared = _shared(index)
    folders = _mvtec_folders(index) if to == "mvtec" else _csv_folders
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.mkdir()
    try:
        rows, masks = [], 0
        for n, (sample, name) in enumerate(_named(index), start=1):
            image, mask = folders(sample, name)
            _give(sample.path, temporary / image, link)
            marked = sample.marked and not sample.normal
            if marked:
                _write_mask(temporary / mask, read_sample(sample, dataset).mask)
                masks += 1
            group = sample.group if sample.group in shared else ""
            where = (image.as_posix(), mask.as_posix() if marked else "")
            rows.append(_row(index.category, sample, where, group))
            progress(n, len(index.samples))
        if to == "csv":
            _write_table(temporary / TABLE, rows)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    lost = tuple(_lost(index, to))
    root = out / TABLE if to == "csv" else out
    return Converted(root, index.category, len(rows), masks, lost)


def _check_free(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() or out.is_symlink():
        raise ConfigError("out", str(out), "a folder that is not there yet, or is empty")


def _named(index: Index) -> Iterator[tuple[Sample, Path]]:
    """Samples in their order, with file names that are unique and sort as they do."""
    digits = len(str(len(index.samples)))
    for n, sample in enumerate(index.samples):
        stem, ending = (
            _ODD.sub("_", nfc(part)) for part in (sample.path.stem, sample.path.suffix)
        )
        yield sample, Path(f"{n:0{digits}}_{stem[:_LONGEST]}{ending}")


def _mvtec_folders(index: Index) -> Callable[[Sample, Path], tuple[Path, Path]]:
    """Where the image and the mask of a sample go, below the folder to write."""
    for name in (index.category, *sorted({sample.type for sample in index.samples})):
        if "/" in name or name in ("", ".", "..") or is_left_alone(name):
            problem = f"{name!r} can be no name of a folder"
            raise DataError(index.root, problem, "convert to csv, which keeps any name")

    def places(sample: Sample, name: Path) -> tuple[Path, Path]:
        base = Path(index.category)
        mask = base / "ground_truth" / sample.type / f"{name.stem}_mask.png"
        if sample.normal and sample.split != "test":
            return base / "train" / NORMAL / name, mask
        return base / "test" / sample.type / name, mask

    return places


def _csv_folders(sample: Sample, name: Path) -> tuple[Path, Path]:
    return Path("images") / name, Path("masks") / f"{name.stem}.png"


def _give(source: Path, place: Path, link: bool) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        if link:
            os.link(source.resolve(), place)
        else:
            shutil.copyfile(source, place)
    except OSError as error:
        what, remedy = "copied", "restore or remove the file"
        if link:
            what, remedy = "linked", "copy instead, or write to the same disk"
        raise DataError(source, f"cannot be {what} ({error.strerror})", remedy) from error


def _write_mask(place: Path, mask: np.ndarray) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(place)


def _row(category: str, sample: Sample, where: tuple[str, str], group: str) -> dict[str, str]:
    label = "0" if sample.normal else "1"
    values = (*where, label, sample.type, sample.split or "", group, category)
    return dict(zip(COLUMNS, values, strict=True))


def _write_table(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _lost(index: Index, to: Target) -> Iterator[str]:
    """What folders cannot say, and what no layout that is written can."""
    if any(sample.saturation for sample in index.samples):
        yield "saturation thresholds of masks are not kept"
    if to == "csv":
        return
    if _shared(index):
        yield "groups are not kept: images of one object may be split; convert to csv to keep them"
    stated = Counter(
        str(s.split) for s in index.samples if s.split and not (s.normal and s.split == "test")
    )
    if stated:
        counts = ", ".join(f"{number} in {name}" for name, number in sorted(stated.items()))
        yield f"stated splits are not kept ({counts}); convert to csv to keep them"


def _shared(index: Index) -> set[str]:
    """Groups of several images."""
    sizes = Counter(sample.group for sample in index.samples)
    return {group for group, size in sizes.items() if size > 1}
