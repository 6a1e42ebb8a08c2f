"""An exported model in Python: images in, maps and decisions out. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data import read_image
from autosearch.errors import ConfigError
from autosearch.export.folder import ExportedModel, load_model
from autosearch.export.journal import RESULTS
from autosearch.export.predict import (
    Loaded,
    Pixels,
    Prediction,
    Skipped,
    find_images,
    make_folders,
    predict_images,
    prepared,
    together,
    write_report,
)
from autosearch.files import write_atomic
from autosearch.graphs import ModelError
from autosearch.metrics import Drift, decide, drift_of

DRIFT = "drift.json"
"""Beside the tables of a prediction: its scores against those of normal validation images."""


@dataclass(frozen=True)
class Answer:
    """What the model says of one image that was handed over in Python.

    Attributes:
        score: The highest value of the anomaly map that the graph gives, or the mean of its
            highest share, as the model says; padding left out.
        anomalous: Whether the score reaches the image threshold.
        map: ``(H, W)`` float32 of the image's own size; higher is more anomalous.
        mask: ``(H, W)`` bool: where the map reaches the pixel threshold.
        object_found: Whether an object was found, without which the whole image is used; None for
            a model that looks for none.
    """

    score: float
    anomalous: bool
    map: Pixels
    mask: NDArray[np.bool_]
    object_found: bool | None = None


class Predictor:
    """An exported model, ready to look at images. Free of torch.

    Args:
        model: Folder of the export; all its files are checked.
        provider: What runs it: ``cpu``, ``cuda``, ``openvino`` or ``openvino-int8``.
        threads: CPU threads; by default the runtime's own choice.

    Attributes:
        model: Thresholds and the graph.

    Raises:
        ModelError: A file is missing or not as it was written.
        ConfigError: The provider is unknown or not installed.
    """

    def __init__(
        self, model: str | Path, provider: str = "cpu", threads: int | None = None
    ) -> None:
        self.model: ExportedModel = load_model(Path(model), provider, threads)

    def __call__(
        self, images: Iterable[str | Path | NDArray[np.uint8]], batch: int = 8
    ) -> list[Answer]:
        """Look at images.

        Args:
            images: Files, or RGB pictures ``(H, W, 3)`` and grey ones ``(H, W)`` as uint8.
            batch: Images per pass, or tiles of one.

        Returns:
            One answer an image, in order.

        Raises:
            DataError: A file cannot be read, or has not the shape that the model looks at.
            ConfigError: Something is no image.
        """
        if isinstance(images, (str, Path)):
            raise ConfigError("images", str(images), "a list of images, or of their paths")
        answers: list[Answer] = []
        every, step = iter(images), together(self.model, batch)
        while part := [_loaded(image, self.model) for image in islice(every, step)]:
            maps, scores = self.model.answers([entry.pixels for entry in part], batch)
            for entry, values, score in zip(part, maps, scores, strict=True):
                share = self.model.top_share
                enlarged, own = entry.answered(values, float(score), share)
                answers.append(
                    Answer(
                        own,
                        bool(decide(own, self.model.image_threshold)),
                        enlarged,
                        decide(enlarged, self.model.pixel_threshold),
                        entry.object_found,
                    )
                )
        return answers

    def check_baseline(self) -> tuple[float, ...]:
        """Scores of normal validation images that new ones can be compared with.

        Raises:
            ModelError: The model was exported before these were kept.
        """
        if self.model.baseline is None:
            raise ModelError(
                f"{self.model.name}: was exported without scores of normal images, so nothing can "
                "be compared with them; export the trial again, or leave out --baseline"
            )
        return self.model.baseline

    def drift(self, scores: Iterable[float], out: str | Path | None = None) -> Drift:
        """Ask whether scores of new images come from where those of normal ones came from.

        The baseline are normal images that the detector of the thresholds had not seen. Images
        with defects are among the new ones, and shift their scores, too: few of them hardly do.

        Args:
            scores: Of new images, as `Answer.score` and `Prediction.score` are.
            out: Folder in which ``drift.json`` is written; None for none.

        Raises:
            ModelError: The model has no baseline.
        """
        found = drift_of(self.check_baseline(), list(scores))
        if out is not None:
            content = {**found.to_plain(), "text": found.text}
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            write_atomic(Path(out) / DRIFT, text)
        return found

    def write(
        self,
        images: Sequence[str],
        out: str | Path,
        batch: int = 8,
        told: Callable[[Prediction | Skipped, int, int], None] = lambda answer, done, total: None,
    ) -> list[Prediction | Skipped]:
        """Look at files and write heatmaps, masks, ``scores.csv`` and ``scores.json``.

        Args:
            images: Files, folders or patterns.
            out: Folder of the results.
            batch: Images per pass, or tiles of one.
            told: Told of each image after its files are written, with the number of images done
                and their total. Whatever ends the work, the tables hold what it was told.

        Returns:
            What is said of each image; those that cannot be read are skipped.

        Raises:
            ConfigError: An argument names no image, the folder cannot be made, or it is that of
                a `Journal`, which knows of no pictures but its own.
        """
        if (Path(out) / RESULTS).exists():
            allowed = f"another folder: this one has the {RESULTS} of --watch or --camera, whose "
            raise ConfigError("--out", str(out), f"{allowed}pictures might be replaced")
        found, answers = find_images(images, Path(out)), []
        make_folders(Path(out))
        try:
            for answer in predict_images(self.model, found, Path(out), batch):
                answers.append(answer)
                told(answer, len(answers), len(found))
        finally:
            write_report(Path(out), self.model, answers)
        return answers


def _loaded(image: str | Path | NDArray[np.uint8], model: ExportedModel) -> Loaded:
    """An image by path or as it is."""
    framing = model.framing
    if isinstance(image, (str, Path)):
        path = Path(image)
        return prepared(read_image(path, orientation=model.orientation), framing, path)
    array = np.asarray(image)
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[-1] == 3)):
        found = f"{array.dtype} of shape {array.shape}"
        raise ConfigError("images", found, "uint8 pictures (H, W, 3) or (H, W), or paths")
    whole = np.repeat(array[..., None], 3, -1) if grey else array
    return prepared(whole.transpose(2, 0, 1).astype(np.float32) / np.float32(255), framing)
