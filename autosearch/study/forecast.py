"""What memory and time a trial will take, told before the first one to who has many images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import optuna
import torch

from autosearch.contracts import Detector, Runner, registry, staged_runner
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
_DRAWN = 2
"""Configurations beside the first one that stand for all trials of a study."""


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
        train: Number of images to fit on that are read; ``study.fit_images`` are of these.
        asked: Number of images that it is measured on.
    """
    pictures = (train + asked) * _FLOAT * _CHANNELS * int(np.prod(validation.pixels.shape[2:]))
    if pictures < LARGE:
        return None
    pixels = asked * int(np.prod(validation.masks.shape[1:]))
    part = min(train, spec.study.fit_images or train)
    try:
        detector, seconds = _timed(spec, runner, _first(spec, runner), validation, part, asked)
    except Infeasible:
        return Forecast(pictures)
    return Forecast(pictures, needed_memory(detector, part, pixels), seconds)


def work(
    spec: StudySpec,
    runner: Runner,
    validation: ImageSet,
    train: int,
    asked: int,
    trials: int,
    enough: float,
) -> float | None:
    """About how many seconds trials of a study take, one after the other.

    It is scaled from its first configuration and two that are drawn from the space, as far as
    they can be built.

    Args:
        spec: See `forecast`; so are the next four.
        runner: See there.
        validation: See there.
        train: See there.
        asked: See there.
        trials: How many are wanted.
        enough: Seconds beyond which it does not matter how many more there are.

    Returns:
        None where it is not known, as of what trains.
    """
    times, found = trials * spec.study.repeats, list[float]()
    for params in first_and_drawn(spec, runner):
        try:
            _, seconds = _timed(spec, runner, params, validation, train, asked)
        except Infeasible:
            continue
        except Exception:  # Trials may fail alike, and then say why.
            return None
        if seconds is None:
            return None
        found.append(seconds)
        if len(found) > _DRAWN or times * sum(found) > enough * (_DRAWN + 1):
            break
    return times * sum(found) / len(found) if found else None


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
        each = len(made.kinds) * made.per_image if isinstance(made, SyntheticSpec) else 0
        asked = len(split.val) + each * sum(sample.normal for sample in split.val)
        runner = staged_runner(registry.load_runner(spec.study.runner)(spec), spec)
        blank = _blank(framings.input.size, framings.measured.size)
        train = sum(sample.normal for sample in split.train)
        return forecast(spec, runner, blank, train, asked)
    except AutosearchError:
        return None


def first_and_drawn(spec: StudySpec, runner: Runner) -> list[Params]:
    """Configurations that stand for all of a study, more than are wanted; see `forecast`."""
    return [_first(spec, runner), *_drawn(spec)]


def _timed(
    spec: StudySpec, runner: Runner, params: Params, validation: ImageSet, train: int, asked: int
) -> tuple[Detector, float | None]:
    """The detector of a configuration, and how long its trial takes; raises `Infeasible`."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, int(spec.resources.cpu)))
    try:
        detector = build(spec, runner, runner.canonical(params), 0, validation)
        seconds = detector.seconds(train, asked)
    finally:
        torch.set_num_threads(before)
    pixels = asked * int(np.prod(validation.masks.shape[1:]))
    return detector, None if seconds is None else seconds + _MEASURING_SECONDS * pixels


def _drawn(spec: StudySpec) -> list[Params]:
    """Configurations of the space, the same every time; more than are wanted."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [spec.parsed_space.suggest(draws.ask()) for _ in range(4 * _DRAWN)]


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
