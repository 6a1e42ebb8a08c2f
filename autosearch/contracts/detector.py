"""The contracts between the search and the systems it searches: `Runner` and `Detector`."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autosearch.data import ImageSet
from autosearch.errors import ConfigError, did_you_mean
from autosearch.spec import Parameter, Params, Space, StudySpec, Value

_CPU_BATCH, _GPU_BATCH = 4, 32
"""Images per pass: on a CPU so few that feature maps stay in its caches."""


@dataclass(frozen=True)
class TrialContext:
    """What a trial is given besides its parameters.

    Attributes:
        seed: For every random draw of the trial.
        device: A torch device string, such as ``cpu`` or ``cuda``.
        image_size: Height and width of the input in pixels.
        validation: For training that selects on it, as an outer loop does; None where the detector
            is only to be built.
        staged_rows: Rows from which on a memory bank that is fitted in steps pauses where it has
            looked at a part of them; None for no such pauses.
    """

    seed: int
    device: str
    image_size: tuple[int, int]
    validation: ImageSet | None = None
    staged_rows: int | None = None


@dataclass(frozen=True)
class Cost:
    """What one image costs, each convention under its own name.

    Attributes:
        macs: Multiply-accumulates of the network.
        flops: Floating-point operations of the network, 2 per multiply-accumulate, and those of
            normalisation, activation and pooling (see `autosearch.backbones.complexity`).
        search_flops: Floating-point operations of the nearest-neighbour search; 0 before `fit`
            and for detectors without a memory bank.
        parameters: Numbers in the network that are used.
        bank_bytes: Size of the memory bank; 0 before `fit`.
    """

    macs: int
    flops: int
    search_flops: int
    parameters: int
    bank_bytes: int


class Detector(ABC):
    """One configured system: fitted on normal images, it scores every pixel of new ones.

    Attributes:
        top_share: Share of the highest pixels whose mean is an image's score; None: the highest
            alone.
    """

    top_share: float | None = None

    @abstractmethod
    def fit(self, train: ImageSet) -> None:
        """Learn what is normal; a supervised detector may read anomalies of the train split."""

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        """Fit, and pause now and then, so that a hopeless trial can be stopped.

        Yields:
            The part of the training that is done, rising, below 1. In each pause `anomaly_maps`
            answers as far as it was trained. What is fitted at once has no pauses.
        """
        self.fit(train)
        yield from ()

    @abstractmethod
    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Score pixels.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``(N, H, W)`` on the CPU; higher is more anomalous. The scale is the detector's own.

        Raises:
            RuntimeError: Nothing was fitted.
        """

    def answers(self, images: Tensor) -> Tensor:
        """What maps are made of before any parameter of `Runner.post_of` has a part in it.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``(N, ...)`` on the CPU, for `maps_of_answers`: here the maps themselves.
        """
        return self.anomaly_maps(images)

    def maps_of_answers(self, answers: Tensor, images: Tensor) -> Tensor:
        """The maps that `anomaly_maps` gives.

        Args:
            answers: Of these images, of this detector or of the one that it follows.
            images: ``(N, 3, H, W)``, the same ones. Of these the detector that a runner makes
                reads nothing but the size.
        """
        return answers

    def follow(self, fitted: Detector) -> None:
        """Share all that another detector has fitted, instead of fitting.

        Args:
            fitted: Of the same runner, seed and images, its configuration another in the
                parameters of `Runner.post_of` alone.

        Raises:
            Infeasible: The other one has not fitted what is needed here.
        """
        raise RuntimeError(f"{type(self).__name__} can only be fitted by itself")

    def memory(self, images: int) -> int:
        """About how many bytes fitting on so many images takes at most, and asking afterwards.

        Trials that would not fit beside others wait for them. 0 where it is not known.
        """
        return 0

    def seconds(self, fitted: int, asked: int) -> float | None:
        """About how long fitting on so many images and asking for others takes, on this machine.

        It is told beforehand to those who have many images. What is measured for it takes a second
        at most; None where it is not known, as of trainings.

        Args:
            fitted: Images to fit on.
            asked: Images whose maps are asked for.
        """
        return None

    def artifacts(self) -> dict[str, bytes]:
        """Files about the last `fit` that a person may want to look at, by name.

        ``curves.json`` is drawn by the report: ``{"x": label, "panels": [{"title": text, "series":
        {name: numbers}}]}``, the numbers of all series one per step of x, None where there is
        none. ``locations.jpg`` is shown as a picture.
        """
        return {}

    def figures(self) -> dict[str, float]:
        """Finite numbers about the last `fit`, by name, to be kept beside what is measured.

        They are for a person who wonders how a trial went, and no objectives: nothing is searched
        by them. A name that an objective has is left to the objective.
        """
        return {}

    @abstractmethod
    def cost(self) -> Cost:
        """What one image costs. The network's part is known before `fit`."""

    @abstractmethod
    def module(self) -> nn.Module:
        """All of `anomaly_maps` as one module of plain operations, for export."""


@dataclass(frozen=True)
class ParameterInfo:
    """A parameter that a runner understands.

    Attributes:
        default: The value where a space does not name the parameter.
        help: What it does, in a few words.
        choices: All allowed values, or None for a range or text.
        low: Lower end of the allowed range.
        high: Upper end of the allowed range.
        text: Whether any text is allowed, to be checked by the runner itself.
        whole: Whether a range is of whole numbers, as it is where the default is one.

    Where the default is None, null is allowed beside a range.
    """

    default: Value
    help: str
    choices: tuple[Value, ...] | None = None
    low: float = 0
    high: float = 0
    text: bool = False
    whole: bool = False

    def check(self, parameter: Parameter) -> None:
        """Refuse a dimension of a space that could draw a value the runner does not allow.

        Raises:
            ConfigError: Names the parameter, the value and what is allowed.
        """
        key = f"space.{parameter.name}"
        if self.choices is not None and parameter.size() > len(self.choices):
            allowed = f"values among {list(self.choices)}"
            raise ConfigError(key, parameter.to_plain(), allowed)
        # Between two numbers that are allowed all are; there may be more than can be listed.
        number = parameter.kind != "choice" and self.choices is None
        for value in parameter.ends() if number else parameter.values():
            if self.choices is not None:
                if value not in self.choices:
                    raise ConfigError(key, value, f"values among {list(self.choices)}")
            elif self.text:
                if not isinstance(value, str):
                    raise ConfigError(key, value, "text")
            else:
                self._check_number(key, value)

    def allowed(self) -> str:
        """What a space may draw, as a phrase."""
        if self.choices is not None:
            return ", ".join("null" if value is None else str(value) for value in self.choices)
        if self.text:
            return "text"
        return f"{'null, ' if self.default is None else ''}{self.low:g} to {self.high:g}"

    def _check_number(self, key: str, value: Value) -> None:
        if value is None and self.default is None:
            return
        allowed = f"numbers from {self.low:g} to {self.high:g}"
        allowed = f"null, or {allowed}" if self.default is None else allowed
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(key, value, allowed)
        if not self.low <= value <= self.high:
            raise ConfigError(key, value, allowed)
        if (self.whole or isinstance(self.default, int)) and not isinstance(value, int):
            raise ConfigError(key, value, "whole numbers")


class Runner(ABC):
    """A system that can be searched: from parameters to a detector.

    A runner is made once per study, on the driver, with its weights loaded, and copied to every
    worker. It must therefore pickle, and `build` must leave it as it was.

    Attributes:
        description: One line for ``autosearch runners``.
        parameters: All parameters that a space may name.
        supervised: Whether its detectors learn from the anomalous images of the train split, too.
            Others are given the normal ones alone.
        probabilities: Whether its detectors' maps are probabilities in [0, 1].
        reads: Keys of the spec that it makes use of among those that not every runner does.
        post_parameters: Parameters that `post_of` may name.
        elsewhere: What is said of parameters that the runner lacks, by pattern of their names,
            where another one has what they are for.
    """

    description: ClassVar[str]
    supervised: ClassVar[bool] = False
    probabilities: ClassVar[bool] = False
    reads: ClassVar[frozenset[str]] = frozenset()
    elsewhere: ClassVar[Mapping[str, str]] = {}
    parameters: ClassVar[Mapping[str, ParameterInfo]]
    post_parameters: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, spec: StudySpec) -> None:
        """Load what all trials of the study share.

        Raises:
            ConfigError: The spec asks for something the runner does not have.
            WeightsError: The weights asked for cannot be had.
        """
        self.spec = spec

    @abstractmethod
    def canonical(self, params: Params) -> Params:
        """Reduce a configuration to what has an effect.

        Two configurations that must behave the same have equal results, whose values are JSON
        scalars. Missing parameters take their defaults.

        Raises:
            Infeasible: The configuration cannot be built; the message says why.
        """

    @abstractmethod
    def build(self, params: Params, context: TrialContext) -> Detector:
        """Make the detector of a canonical configuration."""

    def post_of(self, canonical: Params) -> frozenset[str]:
        """Parameters that can be set after a fit without another; see `Detector.follow`.

        They are the same for all canonical configurations that differ in them alone.
        """
        return frozenset()

    def weights(self) -> list[dict[str, str]]:
        """Name, source, ``sha256`` and note of every set of pretrained weights in use."""
        return []


def check_space(
    space: Space,
    known: Mapping[str, ParameterInfo],
    runner: str,
    elsewhere: Mapping[str, str] | None = None,
) -> None:
    """Refuse a space that a runner could not build from.

    Args:
        space: What is searched.
        known: The runner's parameters.
        runner: What it is called in an error.
        elsewhere: See `Runner.elsewhere`.

    Raises:
        ConfigError: A parameter is unknown to the runner, or may draw a value it does not allow.
    """
    for parameter in space.parameters:
        if parameter.name not in known:
            words = [did_you_mean(parameter.name, known)]
            for pattern, word in (elsewhere or {}).items():
                words += [word] if fnmatchcase(parameter.name, pattern) else []
            key = f"space.{parameter.name}"
            allowed = f"a parameter of {runner}; {' '.join(words)}"
            raise ConfigError(key, parameter.to_plain(), allowed)
        known[parameter.name].check(parameter)


def left_on(space: Space, known: Mapping[str, ParameterInfo]) -> dict[str, Value]:
    """Parts that are built although a space does not name them.

    Args:
        space: What is searched.
        known: The runner's parameters. One of a group, such as ``stage1.extraction_block``, adds a
            part if null or false is allowed and is not its default; those of one of several
            methods, such as ``patchcore/level2.extract``, are left to who names the method.

    Returns:
        By parameter the value that leaves the part out.
    """
    named = {parameter.name for parameter in space.parameters}
    found: dict[str, Value] = {}
    for name, info in known.items():
        off = [value for value in info.choices or () if value is None or value is False]
        group = "." in name and "/" not in name
        if group and name not in named and off and info.default not in off:
            found[name] = off[0]
    return found


def with_defaults(params: Params, known: Mapping[str, ParameterInfo]) -> Params:
    """All parameters of a runner: those given, and the defaults of the others."""
    return {name: params.get(name, info.default) for name, info in known.items()}


def shared_tensor(array: NDArray[Any]) -> Tensor:
    """An array that worker processes share as a tensor, without a copy. Nobody may write to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def passes(images: Tensor, device: str) -> Iterator[Tensor]:
    """``(N, ...)`` images on a device, some at a time."""
    size = _CPU_BATCH if torch.device(device).type == "cpu" else _GPU_BATCH
    for part in torch.split(images, size):
        yield part.to(device)
