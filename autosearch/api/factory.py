"""What a detector will reach in a plant: estimates by repeated splits, and their page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.checks import CheckedStudy
from autosearch.api.moved import moved_to
from autosearch.api.update import Progress, Searched, Update, quiet, reading
from autosearch.contracts import TrialRecord, called, ensemble_name
from autosearch.errors import ConfigError, StudyError
from autosearch.storage import EstimateFiles

if TYPE_CHECKING:
    from autosearch.study import Estimate, EstimateOptions, Inputs, Terms


class EstimatedStudy(CheckedStudy):
    """A study of which one can ask what a trial will reach in a plant."""

    def factory_estimate(
        self,
        trial: int | None = None,
        *,
        ensemble: Iterable[int] | None = None,
        options: EstimateOptions | None = None,
        terms: Terms | None = None,
        name: str | None = None,
        executor: str = "auto",
        address: str | None = None,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
    ) -> Estimate:
        """Estimate what a trial will reach: repeated splits of all images, trained from scratch.

        In every repeat a threshold is chosen on one half of the evaluated images, and all figures
        are taken on the other. What is finished is kept in ``factory/NAME`` of the study and not
        done again; other ``terms`` train nothing anew.

        Args:
            trial: Its number; by default the one that `recommend` names; none beside an ensemble.
            ensemble: Numbers of trials that answer as one detector.
            options: How many repeats, and which images take part.
            terms: By which rule thresholds are chosen, prevalence, parts per shift.
            name: Of the estimate; by default ``trial-3`` or ``ensemble-3+7``.
            executor: Where repeats run; see `autosearch.search`.
            address: Of a Ray cluster.
            data: See `Study.repeat`.
            category: See `Study.resume`.
            progress: Told of images read, and of repeats that are done.

        Raises:
            ConfigError: The runner learns from defects, or the images cannot be split so.
            StudyError: The trial does not exist or has no values; another estimate is in the way;
                a repeat failed.
            KeyboardInterrupt: It was stopped; the same call goes on.
        """
        from autosearch.data import load_pool
        from autosearch.study import EstimateOptions

        records, title, usual = self._estimated(trial, ensemble, progress)
        files = EstimateFiles(self.path, name or usual)
        inputs = self._reopened(progress, moved_to(data, category))
        pool = load_pool(inputs.spec.dataset, reading(progress, "reading all images"))
        run_repeats(
            files, title, inputs, pool, records, options or EstimateOptions(), executor, address,
            progress, self,
        )  # fmt: skip
        return stored_estimate(self.path, files.name, terms)

    def _estimated(
        self, trial: int | None, ensemble: Iterable[int] | None, progress: Progress
    ) -> tuple[list[TrialRecord], str, str]:
        """Trials as their first runs left them, what they are called, and a name of files."""
        from autosearch.study import of_first_run

        records = self._asked(trial, progress, ensemble)
        if len(records) > 1:
            joined = ensemble_name(record.number for record in records)
            return records, called(joined), f"ensemble-{joined}"
        (record,) = records
        single = of_first_run(record, self._folder.files.load_runs(record.origin))
        return [single], called(record.number), f"trial-{record.number}"


def stored_estimate(
    folder: str | Path, name: str | None = None, terms: Terms | None = None
) -> Estimate:
    """What an estimate says so far, by another rule or at another prevalence; trains nothing.

    Args:
        folder: A study's, or what `estimate_spec` was given.
        name: Of the estimate; by default the only one that is there.
        terms: By which rule thresholds are chosen, prevalence, parts per shift.

    Raises:
        StudyError: There is no such estimate, or no repeat of it is finished.
    """
    from autosearch.study import Terms, summarise

    files = EstimateFiles(Path(folder), estimate_name(folder, name))
    about = files.load()
    if about is None:
        raise StudyError(f"{files.path}: no estimate here")
    return summarise(files.repeats(), terms or Terms(), int(about["made_from"].get("seed", 0)))


def write_factory_report(
    folder: str | Path,
    out: str | Path | None = None,
    name: str | None = None,
    terms: Terms | None = None,
    costs: tuple[float, float] = (10.0, 1.0),
) -> Path:
    """Write an HTML page of an estimate that opens without network.

    Args:
        folder: See `stored_estimate`; so are ``name`` and ``terms``.
        out: The file; by default ``factory.html`` in the folder.
        name: Of the estimate.
        terms: By which rule thresholds are chosen, prevalence, parts per shift.
        costs: Of one missed and of one false alarm, for the curve of costs.

    Returns:
        The file.

    Raises:
        StudyError: There is no such estimate, or the file cannot be written.
    """
    from autosearch.report import write_factory_page

    target = Path(out or Path(folder) / "factory.html")
    if target.is_dir():
        raise ConfigError("--out", str(target), "a file, such as factory.html")
    chosen = estimate_name(folder, name)
    estimate = stored_estimate(folder, chosen, terms)
    return write_factory_page(Path(folder), chosen, estimate, costs, target)


def estimate_name(folder: str | Path, name: str | None) -> str:
    """The estimate of a name, or the only one.

    Raises:
        StudyError: There are several and none is named, or there is none.
    """
    known = EstimateFiles.names(Path(folder))
    if name is None and len(known) == 1:
        return known[0]
    if name not in known:
        there = (
            f"there are {', '.join(known)}; which? Give --name"
            if known
            else ("there is none; autosearch factory estimate makes one")
        )
        asked = "" if name is None else f"no estimate {name}; "
        raise StudyError(f"{folder}: {asked}{there}")
    return name


def run_repeats(
    files: EstimateFiles,
    title: str,
    inputs: Inputs,
    pool: Any,
    records: Sequence[TrialRecord],
    options: EstimateOptions,
    executor: str,
    address: str | None,
    progress: Progress,
    study: Searched | None = None,
) -> None:
    """Evaluate what is missing of an estimate; see `autosearch.study.run_estimate`."""
    from autosearch.executors import make_executor
    from autosearch.study import run_estimate

    missing = [n for n in range(options.repeats) if n not in files.repeats()]
    # As long as the trials took; of a configuration that was never run nothing is known.
    seconds = len(missing) * sum(sum(record.seconds.values()) for record in records)

    def told(done: int, total: int) -> None:
        progress(Update("estimating", done, total, title, study=study))

    def say(text: str) -> None:
        progress(Update("executor", 0, None, text, study=study))

    chosen = make_executor(executor, address, lambda: seconds or None, say)
    run_estimate(files, title, inputs, pool, records, options, chosen, told)
