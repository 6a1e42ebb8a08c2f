"""What memory and time a trial will take, told before the first one to who has many images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from autosearch.contracts import Runner, registry
from autosearch.data import (
    LARGE,
    NORMAL,
    ImageSet,
    framings_of,
    open_index,
    settled,
    split_index,
)
from autosearch.errors import AutosearchError, Infeasible
from autosearch.spec import DatasetSpec, Params, StudySpec, SyntheticSpec, load_spec
from autosearch.study.evaluation import build, needed_memory

_MEASURING_SECONDS = 3e-7
"""For each pixel of the maps that are measured: its place in the order of scores, and figures."""
_FLOAT, _CHANNELS = 4, 3


@dataclass(frozen=True)
class Forecast:
    """What images and a trial take, about.

    Attributes:
        pictures: Bytes of the images of both splits as detectors are given them.
        trial: Bytes of a trial; None where its configuration cannot be built.
        seconds: Time that it takes on this machine, on the threads that it is given; None where
            that is not known, as of what trains.
    """

    pictures: int
    trial: int | None = None
    seconds: float | None = None

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def forecast(
    spec: StudySpec, runner: Runner, validation: ImageSet, train: int, asked: int
) -> Forecast | None:
    """What a trial of a study's first configuration takes; None where images are few.

    Args:
        spec: The study. What its first configuration leaves open is the runner's default where
            the space holds that, else the first value of the space.
        runner: Its runner, weights loaded.
        validation: Images of the sizes at which they come in and are measured; one will do.
        train: Number of images that it is fitted on.
        asked: Number of images that it is measured on.
    """
    pictures = (train + asked) * _FLOAT * _CHANNELS * int(np.prod(validation.pixels.shape[2:]))
    if pictures < LARGE:
        return None
    pixels = asked * int(np.prod(validation.masks.shape[1:]))
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpu)))
    try:
        detector = build(spec, runner, runner.canonical(_first(spec, runner)), 0, validation)
        seconds = detector.seconds(train, asked)
    except Infeasible:
        return Forecast(pictures)
    finally:
        torch.set_num_threads(before)
    seconds = None if seconds is None else seconds + _MEASURING_SECONDS * pixels
    return Forecast(pictures, needed_memory(detector, train, pixels), seconds)


def forecast_of_data(dataset: DatasetSpec, space: str) -> Forecast | None:
    """What a trial of a space that is installed takes on a dataset, from the names of its files.

    Args:
        dataset: What may be searched on; images are not read.
        space: Its name.

    Returns:
        None where images are few, or no search would begin.
    """
    try:
        index = open_index(dataset)
        dataset = settled(index, dataset)
        split = split_index(index, dataset)
        # Looking for objects would read all images, and changes little.
        plain = dataset.model_copy(update={"preprocess": "none"})
        framings = framings_of(plain, split.train, lenient=True)
        spec = load_spec(registry.find_space(space)).model_copy(update={"dataset": dataset})
        made = dataset.validation.synthetic
        each = made.per_image if isinstance(made, SyntheticSpec) else 0
        asked = len(split.val) + each * sum(sample.normal for sample in split.val)
        runner = registry.load_runner(spec.study.runner)(spec)
        blank = _blank(framings.input.size, framings.measured.size)
        train = sum(sample.normal for sample in split.train)
        return forecast(spec, runner, blank, train, asked)
    except AutosearchError:
        return None


def _first(spec: StudySpec, runner: Runner) -> Params:
    """A configuration to begin with."""
    params: Params = dict(spec.configurations[0]) if spec.configurations else {}
    for parameter in spec.parsed_space.parameters:
        if parameter.name not in params and parameter.active(params):
            usual = runner.parameters[parameter.name].default
            some = parameter.choices[0] if parameter.kind == "choice" else parameter.ends()[0]
            params[parameter.name] = usual if parameter.contains(usual) else some
    return params


def _blank(size: tuple[int, int], measured: tuple[int, int]) -> ImageSet:
    """One black image without a defect."""
    pixels = np.zeros((1, _CHANNELS, *size), dtype=np.float32)
    masks = np.zeros((1, *measured), dtype=bool)
    return ImageSet(pixels, masks, (NORMAL,), ("",), ("",)).locked()
