"""Finds the images of a dataset: the built-in demo, folders, or the rows of a CSV file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autosearch.data.demo import demo_root
from autosearch.data.folders import categories, index_folders
from autosearch.data.index import Index, masks_among_images
from autosearch.data.tables import csv_categories, index_csv
from autosearch.errors import ConfigError, DataError
from autosearch.files import user_path
from autosearch.spec import DatasetSpec


def open_index(dataset: DatasetSpec) -> Index:
    """Index a dataset: the built-in demo, a CSV file, or folders laid out like MVTec AD.

    Args:
        dataset: ``root`` None means the demo; a ``root`` ending in ``.csv`` a CSV file; any other
            ``root`` the folder above the categories. ``~`` is expanded.

    Raises:
        ConfigError: The category is not there, or a named dataset has no root.
        DataError: The root or its normal images are not there, or the CSV file is wrong. What
            else forbids to use it stands in ``faults``.
    """
    if dataset.root is None:
        if dataset.name != "demo":
            raise ConfigError("dataset.root", None, f"the folder or .csv of {dataset.name!r}")
        return index_folders(demo_root(dataset.seed), dataset.category)
    root = _existing(dataset.root)
    opened = index_folders if root.is_dir() else index_csv
    index = opened(root, dataset.category)
    return replace(index, faults=(*masks_among_images(index.samples), *index.faults))


def only_category(root: str) -> str:
    """The category of a dataset that has one.

    Args:
        root: Folder above the categories, or a CSV file.

    Raises:
        ConfigError: It has several; they are named.
        DataError: It is not there, or the CSV file is wrong.
    """
    place = _existing(root)
    found = categories(place) if place.is_dir() else csv_categories(place)
    if len(found) > 1:
        raise ConfigError("dataset.category", None, f"one of {', '.join(found)}")
    # Where none is found, whoever opens the index says what is missing.
    return found[0] if found else place.stem


def _existing(given: str) -> Path:
    """A folder or a CSV file."""
    root = user_path(given, "dataset.root").resolve()
    if root.is_dir() or (root.suffix.lower() == ".csv" and root.is_file()):
        return root
    raise DataError(
        root,
        "no such folder or .csv file",
        "set dataset.root to an existing one, or to null for the built-in demo",
    )
