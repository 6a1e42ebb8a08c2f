"""TensorBoard: a folder a trial, in one for the study; its parameters in the tab HPARAMS.

Files are written by tensorboardX, which comes with Ray Tune; TensorBoard itself only reads.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from autosearch.tracking.content import PICTURES, StudyContent, TrialContent, text_of

SUFFIX = ".autosearch"
"""Ends the names of files that are ours, which are replaced when a trial is sent again."""


class TensorboardTracker:
    """Writes trials where TensorBoard finds them.

    Args:
        folder: What ``tensorboard --logdir`` is given.
    """

    name = "tensorboard"

    def __init__(self, folder: str) -> None:
        self.to = folder
        self._place = Path(folder)

    def open(self, study: StudyContent) -> None:
        """See `Tracker`."""
        self._place = Path(self.to) / f"{study.name}-{study.id[:6]}"
        self._place.mkdir(parents=True, exist_ok=True)

    def send(self, trial: TrialContent) -> str:
        """See `Tracker`."""
        from tensorboardX.summary import hparams

        place = self._place / f"trial-{trial.number:04d}"
        with _writer(place) as writer:
            plain = {
                name: value if isinstance(value, (bool, int, float, str)) else text_of(value)
                for name, value in trial.params.items()
            }
            for summary in hparams(plain or {"trial": trial.number}, dict(trial.values)):
                writer.file_writer.add_summary(summary)
            for name, value in trial.values.items():
                writer.add_scalar(name, value, 0)
            for curve in trial.curves:
                for name, steps in curve.series.items():
                    for step, value in steps:
                        writer.add_scalar(f"{curve.group}/{name}", value, step)
            for name, content in trial.files.items():
                if Path(name).suffix.lower() in PICTURES:
                    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
                    writer.add_image(name, pixels, dataformats="HWC")
            writer.add_text("about", _table(trial.tags))
        return place.name

    def close(self, study: StudyContent, status: str) -> None:
        """See `Tracker`."""
        with _writer(self._place) as writer:
            for name, value in study.values.items():
                writer.add_scalar(name, value, 0)
            writer.add_text("about", _table({**study.tags, "status": status}))
            writer.add_text("spec", f"```\n{json.dumps(dict(study.params), indent=1)}\n```")


def _writer(place: Path) -> Any:
    """A writer into a folder that had nothing of ours before."""
    from tensorboardX import SummaryWriter

    for old in place.glob(f"events.out.tfevents.*{SUFFIX}"):
        old.unlink()
    return SummaryWriter(str(place), filename_suffix=SUFFIX)


def _table(entries: Any) -> str:
    """Markdown."""
    rows = (f"| {name} | {' '.join(value.split())} |" for name, value in entries.items())
    return "\n".join(("| | |", "|---|---|", *rows))
