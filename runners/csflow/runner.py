"""CS-Flow as a searchable runner: backbone and level, blocks of the flow, scores, training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from autosearch.backbones import FeatureExtractor, TimmBackbone, timm_feature_info
from autosearch.contracts import Detector, ParameterInfo, TrialContext
from autosearch.errors import Infeasible
from autosearch.spec import Params, StudySpec, number

from ..flows.detector import Flow, FlowDetector, FlowTraining
from ..flows.parameters import ALL_IMAGES, WEIGHT_DECAY, schedule_of, schedule_parameters
from ..frozen import FrozenBackboneRunner, frozen
from ..frozen_maps import FrozenMaps
from ..padded import at_stride
from ..parameters import settings, switch
from ..presets import preset, with_preset
from ..training import Schedule
from .networks import CrossScaleFlow, FinestScale
from .pyramid import Pyramid, stages_between, without_last_stage

PRESETS: dict[str, Params] = {
    "original": {
        "backbone": "tf_efficientnet_b5.aa_in1k",
        "layers": "4",
        "drop_stage": True,
        "blocks": 4,
        "hidden": 1024,
        "clamp": 3.0,
        "cell_score": "mean_square",
        "image_score": "mean",
        "lr": 2e-4,
        "weight_decay": 1e-5,
        "epochs": 240,
        "batch": 16,
        "images_per_epoch": ALL_IMAGES,
        "patience": None,
    }
}

_EPS, _CLIP = 1e-4, 1.0


@dataclass(frozen=True)
class CsFlowSettings:
    """The network and how it scores; see `CrossScaleFlow` and `FinestScale`.

    Attributes:
        image_score: Whether an image's score is the mean of its map or its highest pixel.
    """

    blocks: int = 4
    hidden: int = 1024
    clamp: float = 3.0
    cell_score: Literal["mean_square", "norm"] = "mean_square"
    image_score: Literal["mean", "max"] = "mean"


class CsFlowDetector(FlowDetector[CsFlowSettings]):
    """Learns one flow of the maps of an image in three sizes.

    The published score of an image is the mean of z^2 / 2 over all three scales. An image's score
    is made of its map, which holds the finest scale alone, 16 of 21 parts of all numbers: its mean
    is that of the finest scale.

    Args:
        extractor: The frozen backbone, in evaluation mode.
        settings: Of the flow and of scores.
        training: How it is trained.
        context: Seed, device and image size.
        recalibrated: Whether batch norms take their statistics from the training images.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        settings: CsFlowSettings,
        training: FlowTraining,
        context: TrialContext,
        recalibrated: bool = False,
    ) -> None:
        super().__init__(extractor, settings, training, context, recalibrated)
        self.top_share = 1.0 if settings.image_score == "mean" else None

    def _frozen(self, extractor: FeatureExtractor) -> FrozenMaps:
        return Pyramid(extractor)

    def _reductions(self, maps: FrozenMaps) -> list[int]:
        assert isinstance(maps, Pyramid)
        return list(maps.reductions)

    def _flow(self, channels: tuple[int, ...]) -> Flow:
        own = self._settings
        return CrossScaleFlow(channels[0], own.blocks, own.hidden, own.clamp)

    def _scores(self) -> nn.Module:
        norm = self._settings.cell_score == "norm"
        return FinestScale(self._grids[0], self._context.image_size, norm)


_PARAMETERS = {
    "preset": preset(PRESETS),
    **frozen("2", choices=("1", "2", "3", "4"), help="level whose map is used"),
    "drop_stage": switch(
        False, "leave out the level's last stage, which EfficientNet's levels 3 and 4 have"
    ),
    "blocks": ParameterInfo(4, "blocks of couplings", low=1, high=8),
    "hidden": ParameterInfo(64, "channels within conditioners", low=4, high=2048),
    "clamp": ParameterInfo(3.0, "bound of the logarithm of a coupling's scale", low=0.5, high=5),
    "cell_score": ParameterInfo(
        "mean_square",
        "of a cell's channels: mean of squares (code), or Euclidean norm (paper)",
        choices=("mean_square", "norm"),
    ),
    "image_score": ParameterInfo(
        "mean",
        "of an image's map: mean, or highest pixel",
        choices=("mean", "max"),
    ),
    **schedule_parameters(Schedule(epochs=60, batch=8, lr=5e-3)),
    "weight_decay": WEIGHT_DECAY,
}


class CsFlowRunner(FrozenBackboneRunner):
    """Searches the level, the flow and its training."""

    description = "CS-Flow: one normalizing flow of the maps of an image in three sizes"
    presets = PRESETS
    parameters = _PARAMETERS

    def __init__(self, spec: StudySpec) -> None:
        """Load the backbone that the spec names, or every one that the space may draw."""
        super().__init__(spec)
        searched = spec.backbone.architecture is not None
        names = () if searched else self._weights
        self._stages = {name: stages_between(timm_feature_info(name)) for name in names}
        if searched:
            self.without_effect |= {"drop_stage"}

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. A searched backbone comes with the block whose map is used."""
        full = with_preset(params, self.parameters, PRESETS)
        self.check_levels(full)
        name, level = str(full["backbone"]), int(str(full["layers"]))
        if self._drops(full) and not self._stages[name][level]:
            raise Infeasible(f"level {level} of {name} has no last stage that can be left out")
        return {key: value for key, value in full.items() if key not in self.without_effect}

    def extractor(self, full: Params) -> FeatureExtractor:
        """See `FrozenBackboneRunner.extractor`."""
        found = super().extractor(full)
        if self._drops(full):
            assert isinstance(found, TimmBackbone)
            return without_last_stage(found)
        return found

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`."""
        full = with_preset(params, self.parameters, PRESETS)
        training = FlowTraining(
            schedule_of(full), number(full, "weight_decay"), _EPS, _CLIP, per_number=True
        )
        network = settings(CsFlowSettings, full)
        extractor = self.extractor(full)
        return at_stride(
            lambda own: CsFlowDetector(extractor, network, training, own, self.recalibrated),
            context,
            max(Pyramid(extractor).reductions),
        )

    def _drops(self, full: Params) -> bool:
        return bool(full["drop_stage"]) and "drop_stage" not in self.without_effect
