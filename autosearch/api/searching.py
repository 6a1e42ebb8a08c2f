"""Start a search, or go on with one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.study import Study
from autosearch.api.update import Progress, quiet
from autosearch.contracts import registry
from autosearch.spec import StudySpec, load_spec, study_name
from autosearch.storage import StudyFolder

if TYPE_CHECKING:
    from autosearch.contracts import Objective, Runner


def search(
    space: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Iterable[str] = (),
    *,
    trials: int | None = None,
    timeout: float | str | None = None,
    name: str | None = None,
    results: str | Path = "results",
    resume: bool = False,
    executor: str = "auto",
    address: str | None = None,
    storage: str | None = None,
    log_level: str = "info",
    runner: type[Runner] | None = None,
    objectives: Iterable[Objective] = (),
    progress: Progress = quiet,
) -> Study:
    """Search a space until its budget is met, as ``autosearch run`` does.

    Args:
        space: Name of an installed space, path of a YAML file, or a whole spec as a mapping.
        overrides: Values of the spec to replace, by dotted key, such as ``dataset.root``; or
            texts ``key=value``, values in YAML, as ``--set`` takes them.
        trials: Trials in all, replacing ``study.trials``.
        timeout: Seconds, or text such as ``2h``, after which nothing more is handed out.
        name: Of the study and its folder, replacing ``study.name``.
        results: Folder that holds the studies.
        resume: Continue the study if it exists.
        executor: ``ray`` for Ray Tune workers, ``local`` for this process alone, which is exactly
            reproducible; ``auto`` is ``local`` where less than a minute of work is expected.
        address: ``host:port`` of a Ray cluster to join, or ``auto``.
        storage: ``postgresql://…`` of a database that keeps the trials, for several heads.
        log_level: Least level that goes into ``study.log``.
        runner: A `Runner` that is installed under no name. It takes the place of
            ``study.runner``, and must be given again to whoever goes on with the study.
        objectives: Objectives that are installed under no name.
        progress: Told of images read, and of every trial that is finished.

    Returns:
        The study. It may have fewer trials than asked for if time was up, or if it was stopped by
        Ctrl-C, SIGTERM or SIGHUP, which `Study.stopped` tells; no finished trial is lost.

    Raises:
        ConfigError: A key or value is not allowed.
        StudyError: There is such a study already, and it was not asked to continue it.
        AutosearchError: Data, weights or a cluster cannot be used.
    """
    spec = build_spec(space, overrides, runner, trials, timeout, name)
    folder = StudyFolder.begin(Path(results), spec, resume, storage)
    study = Study(folder, runner, objectives)
    study.search(folder.as_begun(spec), executor, address, log_level, progress)
    return study


def open_study(
    path: str | Path,
    *,
    storage: str | None = None,
    runner: type[Runner] | None = None,
    objectives: Iterable[Objective] = (),
) -> Study:
    """Open a study that is there.

    Args:
        path: Its folder.
        storage: Address of the database that has its trials, with user and password.
        runner: As in `search`.
        objectives: As in `search`.

    Raises:
        StudyError: There is none, or it cannot be read.
    """
    return Study.open(path, storage, runner, objectives)


def build_spec(
    space: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | Iterable[str],
    runner: type[Runner] | None = None,
    trials: int | None = None,
    timeout: float | str | None = None,
    name: str | None = None,
) -> StudySpec:
    """The spec that a search of these arguments has; see `search`.

    Args:
        space: See `search`.
        overrides: See `search`.
        runner: See `search`.
        trials: See `search`.
        timeout: See `search`.
        name: See `search`.
    """
    source = space if isinstance(space, Mapping) else registry.find_space(str(space))
    given: list[str | tuple[str, object]] = []
    given += overrides.items() if isinstance(overrides, Mapping) else overrides
    short: dict[str, object] = {"study.trials": trials, "study.timeout": timeout}
    short["study.name"] = study_name(name) if name else None
    if runner is not None:
        short["study.runner"] = runner.__name__
    return load_spec(source, [*given, *((k, v) for k, v in short.items() if v is not None)])
