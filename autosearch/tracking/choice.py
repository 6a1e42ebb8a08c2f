"""Trackers by name, and what a spec says of them made certain before a search begins."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from autosearch.errors import ConfigError
from autosearch.files import user_path
from autosearch.spec import Override, StudySpec, TrackingSpec
from autosearch.storage import StudyFolder
from autosearch.tracking.content import Tracker

_NEEDED = {
    "mlflow": ("mlflow", "mlflow-skinny"),
    "wandb": ("wandb", "wandb"),
    "tensorboard": ("tensorboardX", "tensorboardX"),
}
"""Module that a tracker takes, and the package that has it; extras are called as the trackers."""

_SQLITE = "sqlite:///"


def chosen(tracking: TrackingSpec, folder: Path) -> list[Tracker]:
    """The trackers that a spec names; nothing is reached, and nothing heavy is loaded.

    Args:
        tracking: Of the spec.
        folder: The study's, for what a tracker itself leaves.

    Raises:
        ConfigError: A package is missing.
    """
    found: list[Tracker] = []
    for name, to in tracking.model_dump().items():
        if to is not None:
            check_package(name, to)
            found.append(_made(name, to, folder))
    return found


def check_package(name: str, to: str) -> None:
    """Refuse a tracker whose package is missing.

    Raises:
        ConfigError: Names the package and the extra.
    """
    module, package = _NEEDED[name]
    if importlib.util.find_spec(module) is None:
        allowed = f"null, or the package {package}: pip install 'autosearch[{name}]'"
        raise ConfigError(f"tracking.{name}", to, allowed)


def settled(spec: StudySpec) -> StudySpec:
    """A spec in which folders and files of trackers are absolute.

    Raises:
        ConfigError: One cannot be a path.
    """
    return spec.model_copy(update={"tracking": absolute(spec.tracking)})


def absolute(tracking: TrackingSpec) -> TrackingSpec:
    """The same with absolute folders and files: `autosearch track` may run elsewhere.

    Raises:
        ConfigError: One cannot be a path.
    """
    changed = {}
    if tracking.tensorboard is not None:
        changed["tensorboard"] = _absolute(tracking.tensorboard, "tracking.tensorboard")
    if (file := sqlite_file(tracking.mlflow or "")) is not None:
        changed["mlflow"] = _SQLITE + _absolute(str(file), "tracking.mlflow")
    return tracking.model_copy(update=changed)


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite address; None for any other address."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def asked_for(folder: StudyFolder, given: Mapping[str, object]) -> TrackingSpec:
    """Trackers that a person names for a study that is there, or else those of its spec.

    Args:
        folder: The study's.
        given: Where to show trials, by tracker; None for those that are not named.

    Raises:
        ConfigError: There is none, or a value is not allowed.
    """
    named = [(f"tracking.{name}", str(to)) for name, to in given.items() if to is not None]
    if named:
        none: list[Override] = [(f"tracking.{name}", None) for name in given]
        return absolute(folder.load_spec([*none, *named]).tracking)
    tracking = folder.load_spec().tracking
    if not any(tracking.model_dump().values()):
        raise ConfigError("tracking", "nothing", "a tracker: --mlflow, --wandb or --tensorboard")
    return absolute(tracking)


def _absolute(text: str, key: str) -> str:
    return str(user_path(text, key).resolve())


def _made(name: str, to: str, folder: Path) -> Tracker:
    if name == "mlflow":
        from autosearch.tracking.to_mlflow import MlflowTracker

        file = sqlite_file(to)
        beside = file.parent / "mlartifacts" if file else None
        return MlflowTracker(to, beside)
    if name == "wandb":
        from autosearch.tracking.to_wandb import WandbTracker

        return WandbTracker(to, folder)
    from autosearch.tracking.to_tensorboard import TensorboardTracker

    return TensorboardTracker(to)
