"""All images of a split with what a trial answers, as one page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from autosearch.api.factory import EstimatedStudy
from autosearch.api.moved import moved_to
from autosearch.api.update import Progress, Update, quiet, reading
from autosearch.contracts import called, ensemble_name
from autosearch.errors import ConfigError

if TYPE_CHECKING:
    from autosearch.metrics import Criterion, Rule
    from autosearch.study import SplitName


class ShownStudy(EstimatedStudy):
    """A study whose trials can be looked at, image by image."""

    def gallery(
        self,
        trial: int | None = None,
        *,
        split: SplitName = "validation",
        threshold: Rule | Criterion = "f1",
        out: str | Path | None = None,
        data: str | Path | None = None,
        category: str | None = None,
        progress: Progress = quiet,
        ensemble: Iterable[int] | None = None,
    ) -> Path:
        """Write an HTML page with all images of a split: masks at a threshold that can be moved.

        The trial is fitted again as `evaluate` does, and thresholds are chosen on validation; of
        the test split, the figures at these are those of `evaluate`. Images that are wrong most
        clearly come first. The page opens without network and takes up about 10 MB at most.

        Args:
            trial: Its number; by default the one that `recommend` names; none beside an ensemble.
            split: ``validation`` or ``test``.
            threshold: By which rule thresholds are chosen; see `Study.export`.
            out: The file; by default ``galleries/trial-3-validation.html`` in the study's folder,
                or ``ensemble-3+7-validation.html``.
            data: See `Study.repeat`.
            category: See `Study.resume`.
            progress: Told of images read, and of what is being done.
            ensemble: Numbers of trials to show as one detector; see `Study.evaluate`.

        Returns:
            The file.

        Raises:
            ConfigError: There is no such split, or the rule needs a number.
            StudyError: The trial does not exist or has no values; data or weights have changed;
                the file cannot be written.
        """
        from autosearch.report import GALLERIES, write_gallery
        from autosearch.study import answer_of

        if out is not None and Path(out).is_dir():
            raise ConfigError("--out", str(out), "a file, such as gallery.html")
        records, moved = self._asked(trial, progress, ensemble), moved_to(data, category)
        numbers = [record.number for record in records]
        which = numbers[0] if len(numbers) == 1 else ensemble_name(numbers)
        about = {"trial": records[0]} if len(numbers) == 1 else {"ensemble": which}

        def told(text: str) -> None:
            progress(Update("drawing", 0, None, text, study=self, **about))

        answer = answer_of(
            self._folder,
            records,
            lambda: self._reopened(progress, moved),
            split,
            threshold,
            reading(progress, "reading the test split"),
            told,
            moved,
        )
        told(f"drawing {len(answer.images)} images")
        usual = f"{called(which).replace(' ', '-')}-{split}.html"
        target = Path(out) if out is not None else self.path / GALLERIES / usual
        return write_gallery(answer, self.spec.study.name, called(which), target)
