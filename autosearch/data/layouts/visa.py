"""VisA (Zou et al., 2022): ``Data/Images``, ``Data/Masks``, and splits in a CSV file."""

from __future__ import annotations

from pathlib import Path

from autosearch.data.index import Index
from autosearch.data.layouts.contract import Layout, part_of, stated
from autosearch.data.layouts.gathering import Gathering, Matching
from autosearch.data.layouts.reading import inside, read_rows
from autosearch.data.members import members, nfc
from autosearch.data.notes import Note
from autosearch.data.records import NORMAL
from autosearch.errors import DataError

_IMAGES, _MASKS = Path("Data/Images"), Path("Data/Masks/Anomaly")
_UNNAMED = "anomaly"


def _index(place: Path, name: str) -> Index:
    """Index a category.

    ``image_anno.csv`` tells the types, and ``split_csv/1cls.csv`` beside the category the splits;
    without the one all anomalous images are of one type, without the other the split rule alone
    decides.
    """
    found = Gathering(place)
    kinds = _kinds(found, place)
    splits = _splits(place)
    matching = Matching([place / _MASKS])
    pictures: set[Path] = set()
    for normal in (True, False):
        folder = place / _IMAGES / ("Normal" if normal else "Anomaly")
        content = members(folder)
        found.ignored += content.ignored
        pictures.update(content.images)
        for path in content.images:
            kind = NORMAL if normal else kinds.get(path, _UNNAMED)
            mask = None if normal else matching.mask(path, (".",))
            part = stated(part_of(splits.get(path, "")), normal, "val" in splits.values())
            found.add(path, kind, [mask], part)
    if not any(sample.normal for sample in found.samples):
        raise DataError(place / _IMAGES / "Normal", "holds no image", "add normal images")
    for file, paths in (("image_anno.csv", kinds), ("split_csv/1cls.csv", splits)):
        if missing := sorted(set(paths) - pictures):
            source = place / file if paths is kinds else place.parent / file
            problem = (
                f"names {missing[0].relative_to(place.parent).as_posix()}, which is not there"
            )
            raise DataError(source, problem, "restore the image, or remove its row")
    found.take(matching)
    found.loose(place / _IMAGES, {"Normal", "Anomaly"})
    return found.index(name)


def _kinds(found: Gathering, place: Path) -> dict[Path, str]:
    """The type of every anomalous image that ``image_anno.csv`` names."""
    file, kinds = place / "image_anno.csv", {}
    for line, row in read_rows(file, ("image", "label")) if file.is_file() else ():
        several = [nfc(word.strip()) for word in row["label"].split(",") if word.strip()]
        path = inside(file, place.parent, row["image"], f"line {line}")
        if not several or several[0].lower() in ("normal", NORMAL):
            continue
        kinds[path] = several[0]
        if len(several) > 1:
            note = "has several types of anomaly and counts as the first that its row names"
            remedy = "list the images in a CSV file of your own to have it otherwise"
            found.notes.append(Note(path, note, remedy, ", ".join(several)))
    return kinds


def _splits(place: Path) -> dict[Path, str]:
    """What ``split_csv/1cls.csv`` states for the images of the category."""
    file = place.parent / "split_csv" / "1cls.csv"
    if not file.is_file():
        return {}
    return {
        inside(file, place.parent, row["image"], f"line {line}"): row["split"]
        for line, row in read_rows(file, ("object", "split", "image"))
        if nfc(row["object"]) == nfc(place.name)
    }


VISA = Layout(
    "visa",
    "folders Data/Images/Normal, Data/Images/Anomaly and Data/Masks/Anomaly",
    lambda place: (place / _IMAGES / "Normal").is_dir(),
    _index,
)
