"""FastFlow as a searchable runner: backbone and levels, length and width of flows, training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from autosearch.backbones import FeatureExtractor
from autosearch.contracts import Detector, ParameterInfo, TrialContext
from autosearch.spec import Params, integer, number

from ..flows.detector import Flow, FlowDetector, FlowTraining
from ..flows.parameters import ALL_IMAGES, WEIGHT_DECAY, schedule_of, schedule_parameters
from ..frozen import FrozenBackboneRunner, frozen
from ..frozen_maps import FrozenMaps
from ..padded import at_stride
from ..parameters import settings, switch
from ..presets import preset, with_preset
from ..training import Schedule
from .networks import FastFlow, Improbability

_PUBLISHED: Params = {
    "backbone": "wide_resnet50_2",
    "layers": "1+2+3",
    "flow_steps": 8,
    "hidden_ratio": 1.0,
    "clamp": 2.0,
    "conv3x3_only": False,
    "lr": 1e-3,
    "weight_decay": 1e-5,
    "epochs": 500,
    "batch": 32,
    "images_per_epoch": ALL_IMAGES,
    "patience": None,
}
PRESETS: dict[str, Params] = {"original": _PUBLISHED, "miad": _PUBLISHED}
"""The paper's, for its largest convolutional backbone, and that of MIAD, which are the same."""


@dataclass(frozen=True)
class FastFlowSettings:
    """The network; see `FastFlow`."""

    flow_steps: int = 8
    hidden_ratio: float = 1.0
    clamp: float = 2.0
    conv3x3_only: bool = False


class FastFlowDetector(FlowDetector[FastFlowSettings]):
    """Learns a flow of every level's map, and scores cells by how improbable they are."""

    def _frozen(self, extractor: FeatureExtractor) -> FrozenMaps:
        return FrozenMaps(extractor)

    def _reductions(self, maps: FrozenMaps) -> list[int]:
        return [info.reduction for info in maps.extractor.feature_info]

    def _flow(self, channels: tuple[int, ...]) -> Flow:
        own = self._settings
        return FastFlow(
            channels,
            own.flow_steps,
            own.hidden_ratio,
            own.clamp,
            own.conv3x3_only,
            self._context.seed,
        )

    def _scores(self) -> nn.Module:
        return Improbability(self._grids, self._context.image_size)


_PARAMETERS = {
    "preset": preset(PRESETS),
    **frozen("1+2+3", help="levels whose maps are used"),
    "flow_steps": ParameterInfo(8, "couplings of each flow", low=1, high=32),
    "hidden_ratio": ParameterInfo(
        1.0, "hidden channels of a conditioner by those it reads", low=0.05, high=4
    ),
    "clamp": ParameterInfo(2.0, "bound of the logarithm of a coupling's scale", low=0.5, high=5),
    "conv3x3_only": switch(False, "3 x 3 kernels in every step; else 1 x 1 in every second"),
    **schedule_parameters(Schedule(epochs=60, batch=8, lr=1e-3)),
    "weight_decay": WEIGHT_DECAY,
}


class FastFlowRunner(FrozenBackboneRunner):
    """Searches levels, flows and their training."""

    description = "FastFlow: a normalizing flow on each map of a frozen backbone"
    presets = PRESETS
    parameters = _PARAMETERS

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. A single step has no second kernel to choose."""
        full = with_preset(params, self.parameters, PRESETS)
        self.check_levels(full)
        dropped = set(self.without_effect)
        if integer(full, "flow_steps") == 1:
            dropped.add("conv3x3_only")
        return {key: value for key, value in full.items() if key not in dropped}

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`."""
        full = with_preset(params, self.parameters, PRESETS)
        extractor, network = self.extractor(full), settings(FastFlowSettings, full)
        training = FlowTraining(schedule_of(full), number(full, "weight_decay"))
        return at_stride(
            lambda own: FastFlowDetector(extractor, network, training, own, self.recalibrated),
            context,
            max(info.reduction for info in extractor.feature_info),
        )
