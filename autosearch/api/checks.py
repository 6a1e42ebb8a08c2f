"""What a study can be asked about a trial that is to work in a plant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autosearch.api.moved import moved_to
from autosearch.api.stored import StoredStudy
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.contracts import TrialRecord, ensemble_name
from autosearch.errors import ConfigError
from autosearch.spec import Override

if TYPE_CHECKING:
    from autosearch.metrics import Criterion, Rule
    from autosearch.study import Thresholds


class CheckedStudy(StoredStudy):
    """A study whose trials can be fitted again to be looked into."""

    def invariance(
        self,
        trial: int | None = None,
        *,
        images: int = 100,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
    ) -> dict[str, Any]:
        """Ask what becomes of a trial's scores when pictures are turned, moved, lit otherwise.

        It is fitted as `evaluate` does, and its threshold of images comes from validation. The
        images of the test split are changed on the input, after ``dataset.preprocess``. The report
        is kept in ``factory/invariance`` of the study.

        Args:
            trial: Its number; by default the one that `recommend` names.
            images: Most normal, and most anomalous, images that are changed.
            data: See `Study.repeat`.
            category: See `Study.resume`.
            progress: Told of images read, of fits, and of every change.
            ensemble: Numbers of trials to check as one detector instead; see `Study.evaluate`.

        Returns:
            ``unchanged`` figures, and one row of ``changes`` each; see `autosearch.study`.

        Raises:
            ConfigError: No image is asked for.
            StudyError: The trial does not exist or has no values; data or weights have changed.
        """
        from autosearch.study import measure_invariance

        if images < 1:
            raise ConfigError("images", images, "at least 1")
        records, moved = self._asked(trial, progress, ensemble), moved_to(data, category)

        def told(text: str, done: int, total: int) -> None:
            progress(Update("checking", done, total, text, study=self, **_of(records)))

        return measure_invariance(
            self._folder,
            records,
            lambda: self._reopened(progress, moved),
            images,
            reading(progress, "reading the test split"),
            told,
            moved,
        )

    def background(
        self,
        trial: int | None = None,
        *,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
    ) -> dict[str, Any]:
        """Ask where a trial's scores of normal images lie: on the object, or around it.

        It is fitted as the search did, and asked about normal validation images; the test split is
        not read. The report is kept in ``factory/background`` of the study, with a picture of the
        mean image and the mean map.

        Args:
            trial: Its number; by default the one that `recommend` names.
            data: See `Study.repeat`.
            category: See `Study.resume`.
            progress: Told of images read, and of what is being done.
            ensemble: See `invariance`.

        Returns:
            Shares of area and of score mass outside the object; see `autosearch.study`.

        Raises:
            StudyError: The trial does not exist or has no values; data or weights have changed.
        """
        from autosearch.study import measure_background

        records, moved = self._asked(trial, progress, ensemble), moved_to(data, category)

        def told(text: str) -> None:
            progress(Update("checking", 0, None, text, study=self, **_of(records)))

        return measure_background(
            self._folder, records, lambda: self._reopened(progress, moved), told
        )

    def thresholds(
        self,
        trial: int | None = None,
        *,
        threshold: Rule | Criterion = "f1",
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
    ) -> Thresholds:
        """Choose thresholds of pixels and images on validation, as `export` would.

        Args:
            trial: Its number; by default the one that `recommend` names.
            threshold: By which rule; see `Study.export`.
            data: See `Study.repeat`.
            category: See `Study.resume`.
            progress: Told of images read, and of what is being done.
            ensemble: See `invariance`.

        Returns:
            ``pixel`` and ``image``, each with its ``value`` and the rates that it reaches there.

        Raises:
            ConfigError: The rule needs a number.
            StudyError: The trial does not exist or has no values; data or weights have changed.
        """
        from autosearch.study import choose_thresholds

        records, moved = self._asked(trial, progress, ensemble), moved_to(data, category)
        return choose_thresholds(
            self._folder,
            records,
            lambda: self._reopened(progress, moved),
            threshold,
            lambda text: progress(Update("checking", 0, None, text, study=self, **_of(records))),
        )

    def _asked(
        self, trial: int | None, progress: Progress, ensemble: Iterable[int] | None
    ) -> list[TrialRecord]:
        """The trial of a number, those of an ensemble, or the recommended one, which is told."""
        if ensemble is not None:
            from autosearch.study import members_of

            if trial is not None:
                raise ConfigError("--trial", trial, "none beside an ensemble")
            return members_of(self._folder, list(ensemble))
        if trial is not None:
            return [self._scored_one(trial)]
        found = self.recommend()
        progress(Update("checking", 0, None, f"recommended: {found}", study=self))
        return [found.trial]

    def _reopened(self, progress: Progress, moved: Sequence[Override]) -> Any:
        from autosearch.study import reopen

        return reopen(self._folder, reading(progress), self._runner, self._others, moved)


def _of(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """What an update is about: a trial, or the name of an ensemble."""
    if len(records) == 1:
        return {"trial": records[0]}
    return {"ensemble": ensemble_name(record.number for record in records)}
