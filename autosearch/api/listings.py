"""What there is to search with, and whether a dataset can be searched on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from autosearch.api.update import Progress, quiet, reading
from autosearch.contracts import Objective, registry
from autosearch.errors import ConfigError
from autosearch.files import user_path, write_atomic
from autosearch.spec import dataset_spec

if TYPE_CHECKING:
    from autosearch.contracts import Runner
    from autosearch.data import Converted, Report
    from autosearch.spec import DatasetSpec
    from autosearch.study import Forecast


def spaces() -> dict[str, Path]:
    """Search spaces that can be run by name, and their files."""
    return registry.spaces()


def runners() -> dict[str, type[Runner]]:
    """Installed runners by name; each says in ``parameters`` what a space may hold.

    Whatever the runner, a space may hold ``preprocess``, too.
    """
    return {name: registry.load_runner(name) for name in registry.runner_names()}


def objectives() -> dict[str, Objective]:
    """All that can be an objective, a measure or a constraint, by name."""
    return registry.objectives()


def check_data(
    root: str | Path,
    category: str | None = None,
    overrides: Mapping[str, Any] | Iterable[str] = (),
) -> Report:
    """Count images, masks and regions of a dataset, and name every problem found.

    Args:
        root: Folder of the dataset or of its category, or a file that lists its images.
        category: One product or texture; None where the dataset has one alone.
        overrides: How a study would split it: values of the section ``dataset``, as in
            `autosearch.search`.

    Returns:
        Counts, sizes and problems; ``usable`` tells whether a search can be run on it.

    Raises:
        ConfigError: A key or value is not allowed, or there are several categories.
        DataError: There is no such dataset, or its layout cannot be understood.
    """
    from autosearch.data import check_dataset

    return check_dataset(_asked(root, category, overrides))


def foretell_trial(
    root: str | Path,
    category: str | None = None,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    space: str = "autopatch",
) -> Forecast | None:
    """What memory and time a trial would take on many images; none is read for it.

    Args:
        root: As of `check_data`.
        category: As of `check_data`.
        overrides: As of `check_data`.
        space: Name of an installed space, whose first configuration is meant.

    Returns:
        Figures of this machine; None where images are few, or a search would be refused.

    Raises:
        ConfigError: As of `check_data`.
        DataError: As of `check_data`.
    """
    from autosearch.study import forecast_of_data

    return forecast_of_data(_asked(root, category, overrides), space)


def convert_data(
    root: str | Path,
    category: str | None = None,
    *,
    to: Literal["mvtec", "csv"],
    out: str | Path,
    link: bool = False,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    progress: Progress = quiet,
) -> Converted:
    """Write a dataset of any layout anew, as folders like MVTec AD's or as images and a CSV file.

    Images keep their bytes, masks and outlines become masks of 0 and 255. An interrupt leaves
    nothing behind.

    Args:
        root: As of `check_data`.
        category: As of `check_data`.
        to: ``mvtec``, or ``csv``, which keeps groups and stated splits as well.
        out: Folder to write; it must not be there yet, or be empty.
        link: Make hard links of images instead of copies.
        overrides: As of `check_data`.
        progress: Told about every image.

    Returns:
        What was written, and what folders cannot say.

    Raises:
        ConfigError: As of `check_data`, or ``out`` is in the way.
        DataError: As of `check_data`, or a file of the dataset cannot be read.
    """
    from autosearch.data import convert_dataset

    dataset = _asked(root, category, overrides)
    told = reading(progress, "writing images")
    return convert_dataset(dataset, to, user_path(str(out), "out").resolve(), link, told)


def look_at_data(
    root: str | Path,
    category: str | None = None,
    out: str | Path = "look.jpg",
    overrides: Mapping[str, Any] | Iterable[str] = (),
) -> Path:
    """Draw some images of a dataset beside what a detector will see of them.

    Args:
        root: As of `check_data`.
        category: As of `check_data`.
        out: JPEG file to write.
        overrides: As of `check_data`; how images come in, such as ``preprocess``.

    Returns:
        The file.

    Raises:
        ConfigError: As of `check_data`, images cannot be brought in as asked for, or ``out``
            cannot be written.
        DataError: As of `check_data`, or a file of the dataset cannot be read.
    """
    from autosearch.data import look

    path = user_path(str(out), "out")
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        raise ConfigError("out", str(out), "a name that ends in .jpg")
    content = look(_asked(root, category, overrides))
    try:
        write_atomic(path, content)
    except OSError as error:
        raise ConfigError("out", str(out), f"a file to write ({error.strerror})") from None
    return path


def _asked(
    root: str | Path, category: str | None, overrides: Mapping[str, Any] | Iterable[str]
) -> DatasetSpec:
    """The dataset that somebody means, with its only category where none is named.

    In brackets there are several, as in overrides.
    """
    from autosearch.data import only_category

    wanted: list[str | tuple[str, object]] = []
    wanted += overrides.items() if isinstance(overrides, Mapping) else overrides
    given = dataset_spec(wanted)
    if category is None and "category" not in given.model_fields_set:
        category = only_category(str(root), given.layout)
    named: list[str | tuple[str, object]] = [("root", str(root))]
    if category is not None:
        named.append(f"category={category}" if category[:1] == "[" else ("category", category))
    return dataset_spec([*named, *wanted])
