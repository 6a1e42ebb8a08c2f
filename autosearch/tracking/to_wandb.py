"""Weights & Biases: one run a trial in one group for the study, and one run for the study itself.

Key, server and mode come from its own settings and environment variables (``WANDB_API_KEY``,
``WANDB_BASE_URL``, ``WANDB_MODE=offline``). Names of runs follow from study and trial, so that one
that is sent twice is there once. Its own files lie in ``WANDB_DIR``, else in the study's folder.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from autosearch.contracts import SCORED
from autosearch.errors import ConfigError
from autosearch.tracking.content import PICTURES, StudyContent, TrialContent

_PATIENCE = 30.0
"""Seconds in which a run must have begun, and in which it must have ended."""


class WandbTracker:
    """Sends trials to a project.

    Args:
        project: ``project``, or ``entity/project``.
        folder: For its own files, where no variable names another.
    """

    name = "wandb"

    def __init__(self, project: str, folder: Path) -> None:
        self.to, self._folder = project, folder
        self._study: StudyContent | None = None
        self._offline = False

    def open(self, study: StudyContent) -> None:
        """See `Tracker`.

        Raises:
            ConfigError: There is no key; it would be asked for in the terminal.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._offline = wandb.setup().settings.mode != "online"
        if not self._offline and not wandb.login(prompt=False):
            allowed = "a project with a key: WANDB_API_KEY or `wandb login`; or WANDB_MODE=offline"
            raise ConfigError("tracking.wandb", self.to, allowed)
        self._study = study

    def send(self, trial: TrialContent) -> str:
        """See `Tracker`."""
        about = {"trial": trial.number, **trial.params, "autosearch": dict(trial.tags)}
        run = self._run(f"-{trial.number}", "trial", trial.name, about)
        for curve in trial.curves:
            axis = f"{curve.group}/{curve.axis}"
            rows: dict[int, dict[str, float]] = {}
            for name, steps in curve.series.items():
                run.define_metric(f"{curve.group}/{name}", step_metric=axis)
                for step, value in steps:
                    rows.setdefault(step, {axis: step})[f"{curve.group}/{name}"] = value
            for _, row in sorted(rows.items()):
                run.log(row)
        pictures = {name: content for name, content in trial.files.items() if _is_picture(name)}
        if pictures:
            import wandb

            run.log(
                {
                    name: wandb.Image(Image.open(io.BytesIO(content)))
                    for name, content in pictures.items()
                }
            )
        run.summary.update({**trial.values, "status": str(trial.status)})
        others = {name: its for name, its in trial.files.items() if name not in pictures}
        self._end(run, others, trial.status in SCORED)
        return str(run.id)

    def close(self, study: StudyContent, status: str) -> None:
        """See `Tracker`."""
        about = {**study.params, "autosearch": dict(study.tags)}
        run = self._run("", "study", study.name, about)
        run.summary.update({**study.values, "status": status})
        self._end(run, study.files, status != "failed")

    def _run(self, suffix: str, kind: str, name: str, about: Mapping[str, Any]) -> Any:
        import wandb

        study = self._study
        assert study is not None, "is opened first"
        entity, _, project = self.to.rpartition("/")
        return wandb.init(
            project=project,
            entity=entity or None,
            group=f"{study.name}-{study.id[:6]}",
            job_type=kind,
            name=name,
            id=f"{study.id}{suffix}",
            config=dict(about),
            dir=os.environ.get("WANDB_DIR") or str(self._folder),
            resume=None if self._offline else "allow",
            reinit="create_new",
            settings=wandb.Settings(
                console="off",
                silent=True,
                disable_git=True,
                disable_code=True,
                x_disable_stats=True,
                init_timeout=_PATIENCE,
                finish_timeout=_PATIENCE,
                finish_timeout_raises=True,
            ),
        )

    def _end(self, run: Any, files: Mapping[str, bytes], well: bool) -> None:
        """Give a run its files and end it, which waits until all of it has arrived."""
        with tempfile.TemporaryDirectory(prefix="autosearch-wandb-") as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.write_bytes(content)
                run.save(str(path), base_path=folder, policy="now")
            run.finish(exit_code=0 if well else 1)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURES
