"""How the images of one dataset come in: decided from what was asked for and their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autosearch.data.decoding import shape_of
from autosearch.data.framing import Box, Framing, Size, canvas_size, source_size
from autosearch.data.index import Sample
from autosearch.spec import DatasetSpec


@dataclass(frozen=True)
class Framings:
    """How images of a dataset come in, and how they are measured.

    Attributes:
        input: Onto the canvas that detectors see.
        measured: Onto that at which maps are held against masks; of the same aspect.
    """

    input: Framing
    measured: Framing


def framings_of(dataset: DatasetSpec, samples: Iterable[Sample]) -> Framings:
    """Decide how the images of a dataset come in.

    Args:
        dataset: What was asked for.
        samples: The training images; the shapes of the normal ones are looked up.

    Raises:
        DataError: A file cannot be opened.
    """
    normal = [sample.path for sample in samples if sample.normal]
    return framings_for(dataset, [shape_of(path, dataset.orientation) for path in normal])


def framings_for(dataset: DatasetSpec, shapes: Sequence[Size]) -> Framings:
    """The same from ``(height, width)`` of the normal training images."""
    region = dataset.region_of_interest
    box = Box(*region) if isinstance(region, tuple) else None
    seen = [box.size] if box is not None else shapes
    framing = Framing(canvas_size(dataset.image_size, seen), dataset.fit, box)
    wanted = dataset.evaluation_size
    if wanted is None:
        return Framings(framing, framing)
    short = source_size(seen) if wanted == "source" else wanted
    return Framings(framing, framing.scaled(short))
