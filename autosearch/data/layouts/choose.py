"""The table of layouts, and which of them a dataset has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autosearch.data.categories import joined
from autosearch.data.demo import demo_root
from autosearch.data.index import Index, masks_among_images
from autosearch.data.layouts.btad import BTAD
from autosearch.data.layouts.coco import COCO
from autosearch.data.layouts.contract import Layout
from autosearch.data.layouts.cvat import CVAT
from autosearch.data.layouts.good_bad import FLAT, GOOD_BAD
from autosearch.data.layouts.kolektor import KOLEKTOR, KOLEKTOR2
from autosearch.data.layouts.label_studio import LABEL_STUDIO
from autosearch.data.layouts.labelme import LABELME
from autosearch.data.layouts.mvtec import ARRANGED, MVTEC, few, near_miss, nearly
from autosearch.data.layouts.mvtec_ad_2 import MVTEC_AD_2
from autosearch.data.layouts.mvtec_loco import MVTEC_LOCO
from autosearch.data.layouts.reading import forget
from autosearch.data.layouts.table import CSV
from autosearch.data.layouts.visa import VISA
from autosearch.data.mask_folder import MaskFolder
from autosearch.data.members import folders, listed, nfc
from autosearch.data.records import NORMAL
from autosearch.errors import ConfigError, DataError
from autosearch.files import user_path
from autosearch.spec import DatasetSpec

_GROUPS = (
    (CSV, MVTEC_AD_2, MVTEC_LOCO, VISA, BTAD, KOLEKTOR, KOLEKTOR2, MVTEC),
    (LABELME, CVAT, COCO, LABEL_STUDIO),
    (GOOD_BAD,),
    (FLAT,),
)
"""From the most certain to the least; within a group the more specific come first."""

LAYOUTS = {layout.name: layout for group in _GROUPS for layout in group}
"""All layouts by name, in the order in which they are tried."""

_FILES = (".csv", ".json", ".xml")
_DEFAULT = DatasetSpec().categories[0]


@dataclass(frozen=True)
class _Found:
    """One category of a dataset.

    Attributes:
        layout: Its layout.
        place: Its folder or file.
        named: Whether its name is that of a folder below the root, or one within the file.
    """

    layout: Layout
    place: Path
    named: bool


def open_index(dataset: DatasetSpec) -> Index:
    """Index a dataset, whose layout is recognised unless ``dataset.layout`` names it.

    Args:
        dataset: ``root`` None means the demo; else it is a file that tells of images, the folder
            of a category, or the folder above the categories. ``~`` is expanded. Several
            categories are indexed one by one and joined; see `autosearch.data.categories`.

    Raises:
        ConfigError: The category is not there, or a named dataset has no root; or masks of objects
            are asked for that are not there, or have no effect.
        DataError: The root or its normal images are not there, no layout fits, or a file that
            tells of images is wrong. What else forbids to use it stands in ``faults``.
    """
    masks = _object_masks(dataset)
    if len(dataset.categories) == 1:
        return _open_one(dataset, dataset.categories[0], masks)
    return joined([_open_one(dataset, name, masks) for name in dataset.categories])


def _object_masks(dataset: DatasetSpec) -> MaskFolder | None:
    """The folder that ``dataset.foreground`` names."""
    given, key = dataset.foreground, "dataset.foreground"
    if given is not None and dataset.preprocess == "none":
        allowed = "null, since it has no effect with dataset.preprocess none; "
        allowed += "mask, crop, centre and align go by it"
        raise ConfigError(key, given, allowed)
    return None if given is None else MaskFolder(given, key)


def _open_one(dataset: DatasetSpec, category: str, masks: MaskFolder | None) -> Index:
    """The index of one category."""
    if dataset.root is None:
        if dataset.name != "demo":
            raise ConfigError("dataset.root", None, f"the folder or .csv of {dataset.name!r}")
        root = demo_root(dataset.seed)
    else:
        root = _existing(dataset.root)
    found = _choose(root, dataset, category)
    name = found.place.stem if found.place.is_file() else found.place.name
    if found.layout.categories is not None:
        name = category
    index = replace(found.layout.index(found.place, name), layout=found.layout.name)
    forget()
    faults = (*masks_among_images(index.samples), *index.faults)
    samples = index.samples
    if masks is not None:
        base = root if root.is_dir() else root.parent
        samples = tuple(replace(s, foreground=_mask_of(s.path, base, masks)) for s in samples)
    return replace(index, samples=samples, faults=faults)


def _mask_of(image: Path, base: Path, masks: MaskFolder) -> Path | None:
    """The mask of an image's object; an image that lies elsewhere has none."""
    if not image.is_relative_to(base):
        return None
    return masks.mask_of(image, image.relative_to(base))


def only_category(root: str, layout: str = "auto") -> str:
    """The category of a dataset that has one.

    Args:
        root: Folder above the categories or of one, or a file that tells of images.
        layout: As ``dataset.layout``.

    Raises:
        ConfigError: It has several; they are named.
        DataError: It is not there, or a CSV file is wrong.
    """
    place = _existing(root)
    found: list[str] = []
    for group in _groups(layout, place):
        found = sorted(_categories(place, group, layout))
        if found:
            break
    if len(found) > 1:
        raise ConfigError("dataset.category", None, f"one of {', '.join(found)}")
    # Where none is found, whoever opens the index says what is missing.
    return found[0] if found else place.stem


def _groups(layout: str, root: Path) -> Iterable[tuple[Layout, ...]]:
    """The layouts that may be tried, as they are grouped."""
    if layout == "auto":
        return _GROUPS
    # Studies from before there was this key went by the ending.
    if layout == MVTEC.name and root.suffix.lower() == ".csv" and root.is_file():
        return ((CSV,),)
    return ((LAYOUTS[layout],),)


def _categories(root: Path, group: Iterable[Layout], asked: str) -> dict[str, _Found]:
    """What some layouts find in a root; the first of them has each category."""
    found: dict[str, _Found] = {}
    for layout in group:
        for name, one in _places(root, layout, asked != "auto"):
            found.setdefault(name, one)
    return found


def _places(root: Path, layout: Layout, asked: bool) -> Iterator[tuple[str, _Found]]:
    """The categories that a layout sees in a root."""
    if layout.fits(root, asked):
        if layout.categories is not None and (names := layout.categories(root)):
            yield from ((name, _Found(layout, root, named=True)) for name in names)
        else:
            name = root.stem if root.is_file() else root.name
            yield nfc(name), _Found(layout, root, named=False)
    elif layout.below or asked:
        for folder in folders(root):
            if layout.fits(folder, asked):
                yield nfc(folder.name), _Found(layout, folder, named=True)


def _choose(root: Path, dataset: DatasetSpec, category: str) -> _Found:
    """The place that holds the category, and the layout that fits it best."""
    wanted = nfc(category)
    tried = [_categories(root, group, dataset.layout) for group in _groups(dataset.layout, root)]
    for found in tried:
        one = found.get(wanted) or next((f for f in found.values() if not f.named), None)
        if one is None:
            continue
        if not one.named and not one.layout.single and wanted not in (nfc(root.name), _DEFAULT):
            above = f"set dataset.root to the folder above the categories, {root.parent}, or"
            remedy = f"{above} dataset.category to {root.name}"
            raise DataError(root, "is a category itself", remedy)
        return one
    names = sorted({name for found in tried for name in found})
    if names:
        for folder in folders(root):
            if nfc(folder.name) == wanted and (problem := nearly(folder)):
                raise problem
        raise ConfigError("dataset.category", category, f"one of {', '.join(names)}")
    raise _unreadable(root, dataset, category)


def _unreadable(root: Path, dataset: DatasetSpec, category: str) -> DataError:
    """Why nothing fits, and what would make something of what is there."""
    others = [name for name in LAYOUTS if name != dataset.layout]
    asked = dataset.layout != "auto"
    for layout in (LAYOUTS[dataset.layout],) if asked else (COCO, LABEL_STUDIO):
        # What could not be read counted as none of it, and is worth a word now.
        layout.holds(root)
    if asked:
        looks = LAYOUTS[dataset.layout].looks
        problem = f"is not of the layout {dataset.layout}: {looks}; it holds {_holding(root)}"
        return DataError(root, problem, f"set dataset.layout to auto, or {', '.join(others)}")
    if root.is_file():
        problem = "is neither a CSV file, nor one of COCO, Label Studio or CVAT for images 1.1"
        return DataError(root, problem, "export it anew as one of these")
    if (nearest := near_miss(root, category)) is not None:
        return nearest
    return DataError(
        root,
        f"no category folder with train/{NORMAL} inside, and no other layout: it holds"
        f" {_holding(root)}",
        f"set dataset.root to the folder above the categories, which holds {ARRANGED}, to a .csv"
        f" file, or to a dataset of one of the layouts {', '.join(LAYOUTS)}",
    )


def _holding(root: Path) -> str:
    """What lies in a folder, in a few words."""
    return few([path.name for path in listed(root)]) or "nothing"


def _existing(given: str) -> Path:
    """A folder, or a file that may tell of images."""
    root = user_path(given, "dataset.root").resolve()
    if root.is_dir() or (root.suffix.lower() in _FILES and root.is_file()):
        return root
    raise DataError(
        root,
        "no such folder or .csv file (nor .json, nor .xml)",
        "set dataset.root to an existing one, or to null for the built-in demo",
    )
