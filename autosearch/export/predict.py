"""Images to heatmaps, masks and scores with an exported model. Free of torch.

Images are read and resized by the very functions that the search used.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from autosearch.data import Framing, View, heat, read_image, read_object_mask
from autosearch.errors import AutosearchError, ConfigError, DataError, one_line
from autosearch.export.folder import ExportedModel
from autosearch.export.listing import Found
from autosearch.files import publish, write_atomic
from autosearch.metrics import decide, image_scores

HEATMAPS, MASKS, TABLE, REPORT = "heatmaps", "masks", "scores.csv", "scores.json"

_OPACITY, _STRIP = 0.7, 256
_LONGEST_JPEG = 65_500
_PALETTE = heat(np.linspace(0, 1, 256)[None])[0].astype(np.float32)

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image.

    Attributes:
        path: The image.
        score: Of the image: the highest value of what counts in its anomaly map, or the mean of
            the highest share of it, as the model says.
        anomalous: Whether the score reaches the threshold.
        threshold: Of the image score.
        anomalous_pixels: Pixels of the image whose value reaches the pixel threshold.
        seconds: Of the model alone, the share of this image in its batch.
        heatmap: File beside the table.
        mask: File beside the table.
        object_found: Whether an object was found, without which the whole image is used; None for
            a model that looks for none.
        foreground: The mask of its object that was handed in; None where it was looked for.
    """

    path: str
    score: float
    anomalous: bool
    threshold: float
    anomalous_pixels: int
    seconds: float
    heatmap: str
    mask: str
    object_found: bool | None = None
    foreground: str | None = None


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read.

    Attributes:
        path: The image.
        problem: Why.
    """

    path: str
    problem: str


@dataclass(frozen=True)
class Loaded:
    """An image as the graph wants it, as a person sees it, and how one lies on the other."""

    photo: NDArray[np.uint8]
    pixels: Pixels
    framing: Framing
    view: View

    @property
    def object_found(self) -> bool | None:
        """Whether an object was found; None where none is looked for."""
        return None if self.framing.preprocess == "none" else self.view.object is not None

    def answered(
        self, values: Pixels, score: float, top_share: float | None
    ) -> tuple[Pixels, float]:
        """The graph's map at the size of the photograph, and the score of what counts in it.

        Args:
            values: The map.
            score: What the model says of the whole map.
            top_share: See `autosearch.metrics.image_scores`.
        """
        valid = self.framing.valid(self.view)
        if valid is not None:
            score = float(image_scores(values[None], top_share, valid[None])[0])
        return self.framing.restored(values, self.view), score


def make_folders(out: Path) -> None:
    """Make the folders of the results.

    Raises:
        ConfigError: They cannot be made.
    """
    for folder in (out / HEATMAPS, out / MASKS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("--out", str(out), f"a folder ({error.strerror})") from None


def predict_images(
    model: ExportedModel, images: Sequence[Found], out: Path, batch: int
) -> Iterator[Prediction | Skipped]:
    """Predict image after image, writing a heatmap and a mask for each before it is returned.

    Args:
        model: What to ask.
        images: What about.
        out: Folder of the results, as `make_folders` makes it.
        batch: Images per pass, or tiles of one.
    """
    with workers() as pool:
        step = together(model, batch)
        for start in range(0, len(images), step):
            yield from predict_together(model, images[start : start + step], out, batch, pool)


def workers() -> ThreadPoolExecutor:
    """Threads that read and write pictures."""
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1))


def together(model: ExportedModel, batch: int) -> int:
    """How many images are held at a time: with tiles, which are large, but one."""
    return batch if model.tiles is None else 1


def write_report(out: Path, model: ExportedModel, answers: Iterable[Prediction | Skipped]) -> None:
    """Write ``scores.csv`` (predictions alone) and ``scores.json`` (what was skipped as well)."""
    listed = list(answers)
    names = [f.name for f in fields(Prediction)]
    if model.framing.preprocess == "none":
        names.remove("object_found")
    if not any(isinstance(answer, Prediction) and answer.foreground for answer in listed):
        names.remove("foreground")
    predictions = [
        {name: getattr(answer, name) for name in names}
        for answer in listed
        if isinstance(answer, Prediction)
    ]
    skipped = [asdict(answer) for answer in listed if isinstance(answer, Skipped)]
    table = io.StringIO()
    writer = csv.DictWriter(table, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(predictions)
    write_atomic(out / TABLE, table.getvalue())
    report = {
        "model": {"name": model.name, "sha256": model.sha256},
        "thresholds": {
            "image": model.image_threshold.value,
            "pixel": model.pixel_threshold.value,
        },
        "images": predictions,
        "skipped": skipped,
    }
    write_atomic(out / REPORT, json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def shade(values: Pixels, model: ExportedModel) -> Pixels:
    """Where values stand in the model's range: 0 at its low end, 1 at its high end.

    The pixel threshold is in the middle, so that what is called anomalous can be told by its
    colour; only where it lies outside the range, the scale is even.
    """
    ends, places = [model.low, model.high], [0.0, 1.0]
    if model.low < model.pixel_threshold.value < model.high:
        ends.insert(1, model.pixel_threshold.value)
        places.insert(1, 0.5)
    return np.interp(values, ends, places).astype(np.float32)


def blend(photo: NDArray[np.uint8], values: Pixels) -> NDArray[np.uint8]:
    """Lay a heatmap over a photograph: the higher a value, the less of the photograph is left.

    From 0.7 on, no less is left than 30 %.

    Args:
        photo: ``(H, W, 3)``.
        values: ``(H, W)`` in [0, 1].
    """
    mixed = np.empty_like(photo)
    # In strips, since a large photograph in float32 is several times its size.
    for start in range(0, len(photo), _STRIP):
        rows = slice(start, start + _STRIP)
        colours = _PALETTE[(values[rows] * 255).astype(np.uint8)]
        weights = np.minimum(values[rows], _OPACITY)[..., None]
        mixed[rows] = (photo[rows] + weights * (colours - photo[rows])).round()
    return mixed


def prepared(
    image: Pixels, framing: Framing, path: Path | str = "image", foreground: Mask | None = None
) -> Loaded:
    """An image ``(3, h, w)`` as a photograph, and as the graph wants it.

    Args:
        image: RGB in [0, 1].
        framing: How it comes onto the canvas.
        path: Its file, for the error.
        foreground: ``(h, w)`` mask of its object; None where it is looked for.

    Raises:
        DataError: It has not the shape that the model looks at.
    """
    photo = (image * 255).round().astype(np.uint8).transpose(1, 2, 0)
    view = framing.view(image, path, foreground)
    return Loaded(np.ascontiguousarray(photo), framing.pixels(image, view), framing, view)


def _load(found: Found, model: ExportedModel) -> Loaded | Skipped:
    try:
        str(found.path).encode()
        if found.content is None and not found.path.is_file():
            raise DataError(found.path, "is no file", "name images or folders")
        image = read_image(found.path, found.content, model.orientation)
        mask = None
        if found.foreground is not None:
            shape = (image.shape[1], image.shape[2])
            mask = read_object_mask(found.foreground, shape, model.orientation).mask
        return prepared(image, model.framing, found.path, mask)
    except UnicodeEncodeError:
        return Skipped(one_line(str(found.path)), "has a name that is not in UTF-8; rename it")
    except AutosearchError as error:
        return Skipped(str(found.path), str(error).removeprefix(f"{found.path}: "))


def predict_together(
    model: ExportedModel, images: Sequence[Found], out: Path, batch: int, pool: Executor
) -> Iterator[Prediction | Skipped]:
    """Images that are held together; what they take is free again before others are read."""
    loaded = list(pool.map(lambda found: _load(found, model), images))
    yield from (entry for entry in loaded if isinstance(entry, Skipped))
    whole = [
        (found, entry)
        for found, entry in zip(images, loaded, strict=True)
        if isinstance(entry, Loaded)
    ]
    if whole:
        yield from predict_loaded(model, whole, out, batch, pool)


def predict_loaded(
    model: ExportedModel,
    whole: Sequence[tuple[Found, Loaded]],
    out: Path,
    batch: int,
    pool: Executor,
) -> Iterator[Prediction]:
    """The same of images that have been read."""
    before = time.perf_counter()
    maps, scores = model.answers([entry.pixels for _, entry in whole], batch)
    seconds = (time.perf_counter() - before) / len(whole)

    def finish(i: int) -> Prediction:
        found, entry = whole[i]
        return _write(model, found, entry, maps[i], float(scores[i]), seconds, out)

    yield from pool.map(finish, range(len(whole)))


def _write(
    model: ExportedModel,
    found: Found,
    loaded: Loaded,
    values: Pixels,
    score: float,
    seconds: float,
    out: Path,
) -> Prediction:
    height, width = loaded.photo.shape[:2]
    enlarged, score = loaded.answered(values, score, model.top_share)
    mask = decide(enlarged, model.pixel_threshold)
    suffix = ".jpg" if max(width, height) <= _LONGEST_JPEG else ".png"
    heatmap, drawn = f"{HEATMAPS}/{found.name}{suffix}", f"{MASKS}/{found.name}.png"
    _save(out / heatmap, blend(loaded.photo, shade(enlarged, model)))
    _save(out / drawn, mask.astype(np.uint8) * np.uint8(255))
    return Prediction(
        path=str(found.path),
        score=score,
        anomalous=bool(decide(score, model.image_threshold)),
        threshold=model.image_threshold.value,
        anomalous_pixels=int(mask.sum()),
        seconds=round(seconds, 6),
        heatmap=heatmap,
        mask=drawn,
        object_found=loaded.object_found,
        foreground=None if found.foreground is None else str(found.foreground),
    )


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    picture = Image.fromarray(pixels)
    publish(path, lambda temporary: picture.save(temporary, kind, quality=90))
