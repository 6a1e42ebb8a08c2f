"""Runners that train on the maps of a frozen backbone, or of a subnet that AutoPatch found."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from autosearch.backbones import (
    MODEL_NAMES,
    FeatureExtractor,
    OFAMobileNetV3,
    TimmBackbone,
    Weights,
    resolve,
    timm_feature_info,
)
from autosearch.contracts import ParameterInfo
from autosearch.errors import ConfigError, Infeasible, WeightsError
from autosearch.spec import ArchitectureSpec, Params, StudySpec, Value

from .autopatch import architecture_of
from .parameters import BACKBONE, drawn
from .presets import PRESET, SMALL
from .pretrained import PretrainedRunner

LAYERS = ("1", "2", "3", "1+2", "1+3", "2+3", "1+2+3")
"""Levels that most methods may use."""


def frozen(
    layers: str,
    backbone: ParameterInfo = BACKBONE,
    choices: tuple[str, ...] = LAYERS,
    help: str = "levels whose maps are used; the first fixes the grid",
) -> dict[str, ParameterInfo]:
    """The parameters of a frozen backbone.

    Args:
        layers: Which levels are used where a space does not say so.
        backbone: As a parameter.
        choices: Of levels.
        help: What they do.
    """
    return {"backbone": backbone, "layers": ParameterInfo(layers, help, choices=choices)}


FROZEN = frozen("2+3")


class FrozenBackboneRunner(PretrainedRunner):
    """Gives detectors the maps of a backbone that stays as it is.

    A subnet that AutoPatch found (``backbone.study``) comes with the blocks whose maps are used,
    one or more, and with batch norms as in its trial.

    Attributes:
        presets: By name what a preset has instead of the defaults, maybe another backbone.
        recalibrated: Whether batch norms are to take their statistics from the training images.
        without_effect: Names of the parameters that a subnet leaves without effect.
    """

    reads = frozenset({"backbone.study"})
    presets: ClassVar[Mapping[str, Params]] = {}

    def __init__(self, spec: StudySpec) -> None:
        """Load the backbone that the spec names, or every one that the space may draw."""
        super().__init__(spec)
        self._subnet: FeatureExtractor | None = None
        self.recalibrated, self.without_effect = False, frozenset[str]()
        if (found := spec.backbone.architecture) is not None:
            self._subnet, weights = searched_subnet(spec, found)
            self._weights[weights.name] = weights
            # Features are worth what they were in the trial only if they are made as in the trial.
            self.recalibrated = bool(found.params.get("bn_recalibration"))
            self.without_effect = frozenset(FROZEN)
        else:
            self._load(dict.fromkeys(drawn(spec, "backbone", *self._defaults(spec))))
            self._levels = {name: len(timm_feature_info(name)) for name in self._weights}

    def _defaults(self, spec: StudySpec) -> list[Value]:
        """The backbones of a space that names none: of the presets that it may draw."""
        own = self.parameters["backbone"].default
        names = map(str, drawn(spec, PRESET, SMALL))
        return [self.presets.get(name, {}).get("backbone", own) for name in names]

    def check_levels(self, full: Params) -> None:
        """Refuse levels that the backbone does not have.

        Raises:
            Infeasible: Names the backbone and its levels.
        """
        if self._subnet is not None:
            return
        name, deepest = str(full["backbone"]), _levels(full)[-1]
        if deepest >= self._levels[name]:
            last = self._levels[name] - 1
            raise Infeasible(f"{name} has no level {deepest}, only 0 to {last}")

    def extractor(self, full: Params) -> FeatureExtractor:
        """A copy of the backbone of a configuration that names every parameter."""
        if self._subnet is not None:
            return copy.deepcopy(self._subnet)
        name = str(full["backbone"])
        return TimmBackbone(name, _levels(full), self._weights[name].state)


def _levels(params: Params) -> tuple[int, ...]:
    return tuple(int(level) for level in str(params["layers"]).split("+"))


def searched_subnet(spec: StudySpec, found: ArchitectureSpec) -> tuple[FeatureExtractor, Weights]:
    """The subnet that a trial of AutoPatch found, and its supernet's weights without the tensors.

    Raises:
        ConfigError: The trial is of another runner.
        WeightsError: The weights are not those of the trial's study.
    """
    if found.runner != "autopatch":
        allowed = f"a study of the runner autopatch, not {found.runner}"
        raise ConfigError("backbone.study", spec.backbone.study, allowed)
    architecture = architecture_of(found.params)
    name = next(name for name, width in MODEL_NAMES.items() if width == architecture.width)
    own = spec.backbone.weights
    weights = resolve(name, found.weights if own == "auto" else own, found.seed)
    if weights.sha256 != found.hashes.get(name):
        raise WeightsError(
            f"{name}: its SHA-256 is {weights.sha256}, but {spec.backbone.study} searched with "
            f"{found.hashes.get(name)}; set backbone.weights to the file of then"
        )
    subnet = OFAMobileNetV3(architecture.width, weights.state).subnet(architecture)
    return subnet, replace(weights, state={})
