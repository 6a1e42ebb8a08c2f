"""What there is to search with, and whether a dataset can be searched on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.contracts import Objective, registry
from autosearch.spec import dataset_spec

if TYPE_CHECKING:
    from autosearch.contracts import Runner
    from autosearch.data import Report


def spaces() -> dict[str, Path]:
    """Search spaces that can be run by name, and their files."""
    return registry.spaces()


def runners() -> dict[str, type[Runner]]:
    """Installed runners by name; each says in ``parameters`` what a space may hold."""
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
        root: Folder of the dataset, or a CSV file.
        category: One product or texture; None where the dataset has one alone.
        overrides: How a study would split it: values of the section ``dataset``, as in
            `autosearch.search`.

    Returns:
        Counts, sizes and problems; ``usable`` tells whether a search can be run on it.

    Raises:
        ConfigError: A key or value is not allowed, or there are several categories.
        DataError: There is no such dataset, or its layout cannot be understood.
    """
    from autosearch.data import check_dataset, only_category

    chosen = only_category(str(root)) if category is None else category
    given: list[str | tuple[str, object]] = [("root", str(root)), ("category", chosen)]
    given += overrides.items() if isinstance(overrides, Mapping) else overrides
    return check_dataset(dataset_spec(given))
