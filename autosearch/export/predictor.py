"""An exported model in Python: images in, maps and decisions out. Free of torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autosearch.data import of_size, read_image, read_object_mask
from autosearch.errors import ConfigError
from autosearch.export.folder import ExportedModel, load_model
from autosearch.export.journal import RESULTS
from autosearch.export.listing import find_images, masks_of
from autosearch.export.predict import (
    Loaded,
    Mask,
    Pixels,
    Prediction,
    Skipped,
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

Picture = str | Path | NDArray[np.uint8]
Marked = str | Path | NDArray[np.generic] | None
"""The mask of an object: a file, or ``(h, w)``, where it is not 0; None where it is looked for."""


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
        self,
        images: Iterable[Picture],
        batch: int = 8,
        foreground: Iterable[Marked] | None = None,
    ) -> list[Answer]:
        """Look at images.

        Args:
            images: Files, or RGB pictures ``(H, W, 3)`` and grey ones ``(H, W)`` as uint8.
            batch: Images per pass, or tiles of one.
            foreground: For each image the mask of its object, a file or ``(h, w)`` that is not 0
                on it, of the image's size or at least its aspect; or None, where the object is
                looked for. Only for a model that looks for objects.

        Returns:
            One answer an image, in order.

        Raises:
            DataError: A file cannot be read, or has not the shape that the model looks at.
            ConfigError: Something is no image or no mask, or there is not a mask for each image.
        """
        if isinstance(images, (str, Path)):
            raise ConfigError("images", str(images), "a list of images, or of their paths")
        if foreground is not None and self.model.framing.preprocess == "none":
            allowed = "None, since this model was made without dataset.preprocess"
            raise ConfigError("foreground", "masks", allowed)
        answers: list[Answer] = []
        every, step = _paired(images, foreground), together(self.model, batch)
        while part := [_loaded(*pair, self.model) for pair in islice(every, step)]:
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
        foreground: str | Path | None = None,
    ) -> list[Prediction | Skipped]:
        """Look at files and write heatmaps, masks, ``scores.csv`` and ``scores.json``.

        Args:
            images: Files, folders or patterns.
            out: Folder of the results.
            batch: Images per pass, or tiles of one.
            told: Told of each image after its files are written, with the number of images done
                and their total. Whatever ends the work, the tables hold what it was told.
            foreground: Folder with masks of the objects, laid out as the images in their folder,
                or named as the files; the object of an image without mask is looked for.

        Returns:
            What is said of each image; those that cannot be read are skipped.

        Raises:
            ConfigError: An argument names no image, the folder cannot be made, or it is that of
                a `Journal`, which knows of no pictures but its own; no image has a mask, or the
                model wants no object.
        """
        if (Path(out) / RESULTS).exists():
            allowed = f"another folder: this one has the {RESULTS} of --watch or --camera, whose "
            raise ConfigError("--out", str(out), f"{allowed}pictures might be replaced")
        masks = masks_of(self.model, foreground)
        found, answers = find_images(images, Path(out), masks), []
        make_folders(Path(out))
        try:
            for answer in predict_images(self.model, found, Path(out), batch):
                answers.append(answer)
                told(answer, len(answers), len(found))
        finally:
            write_report(Path(out), self.model, answers)
        return answers


def _paired(
    images: Iterable[Picture], foreground: Iterable[Marked] | None
) -> Iterator[tuple[Picture, Marked]]:
    """Each image with the mask of its object."""
    if foreground is None:
        yield from ((image, None) for image in images)
        return
    allowed = "one for each image, or None in its place"
    masks = iter(foreground)
    for image in images:
        given = list(islice(masks, 1))
        if not given:
            raise ConfigError("foreground", "fewer masks than images", allowed)
        yield image, given[0]
    if list(islice(masks, 1)):
        raise ConfigError("foreground", "more masks than images", allowed)


def _mask(given: Marked, size: tuple[int, ...], model: ExportedModel) -> Mask | None:
    """The mask of an object at the size of its image."""
    if given is None:
        return None
    shape = (size[0], size[1])
    if isinstance(given, (str, Path)):
        return read_object_mask(Path(given), shape, model.orientation).mask
    if given.ndim != 2:
        raise ConfigError("foreground", f"an array of shape {given.shape}", "(h, w), or a path")
    return of_size(given != 0, shape, "foreground")


def _loaded(image: Picture, mask: Marked, model: ExportedModel) -> Loaded:
    """An image by path or as it is."""
    framing = model.framing
    if isinstance(image, (str, Path)):
        path = Path(image)
        pixels = read_image(path, orientation=model.orientation)
        return prepared(pixels, framing, path, _mask(mask, pixels.shape[1:], model))
    array = np.asarray(image)
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[-1] == 3)):
        found = f"{array.dtype} of shape {array.shape}"
        raise ConfigError("images", found, "uint8 pictures (H, W, 3) or (H, W), or paths")
    whole = np.repeat(array[..., None], 3, -1) if grey else array
    pixels = whole.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return prepared(pixels, framing, foreground=_mask(mask, array.shape, model))
