"""Reverse distillation as a searchable runner: teacher, student, loss, map and training."""

from __future__ import annotations

from autosearch.contracts import Detector, ParameterInfo, TrialContext
from autosearch.spec import Params, choice

from ..frozen import FrozenBackboneRunner, frozen
from ..padded import at_stride
from ..parameters import settings
from ..presets import PRESET, preset, with_preset
from ..training import Schedule, schedule_parameters
from .detector import ReverseDistillationDetector, ReverseSettings

_PUBLISHED: Params = {
    "backbone": "wide_resnet50_2",
    "layers": "1+2+3",
    "decoder_width": 1.0,
    "decoder_blocks": 3,
    "compared": "map",
    "smoothing_sigma": 4.0,
    "epochs": 200,
    "images_per_epoch": 1_000_000,
    "patience": None,
    "lr": 5e-3,
    "mixed_precision": False,
}
PRESETS: dict[str, Params] = {
    "original": _PUBLISHED | {"map_mode": "add", "batch": 16},
    "miad": _PUBLISHED | {"map_mode": "multiply", "batch": 32},
}
"""``original`` is the authors' code, ``miad`` the appendix of MIAD, which runs anomalib."""

_PARAMETERS = {
    PRESET: preset(PRESETS),
    **frozen("1+2+3", help="levels that are rebuilt; the last fixes the embedding's grid"),
    "decoder_width": ParameterInfo(
        1.0, "width of the student's levels as a share of the teacher's", low=0.1, high=8
    ),
    "decoder_blocks": ParameterInfo(
        1, "residual blocks of the embedding and of every level", low=1, high=6
    ),
    "compared": ParameterInfo(
        "cell",
        "vectors of the loss: those of cells (paper), or whole maps (code)",
        choices=("cell", "map"),
    ),
    "map_mode": ParameterInfo(
        "add", "how the maps of levels become one", choices=("add", "multiply")
    ),
    "smoothing_sigma": ParameterInfo(4.0, "Gaussian over the map, pixels", low=0, high=64),
    **schedule_parameters(Schedule(epochs=40, batch=8, lr=5e-3)),
}


class ReverseDistillationRunner(FrozenBackboneRunner):
    """Searches what a student of a frozen teacher is like, and how both are compared."""

    presets = PRESETS
    description = "Reverse distillation: a student rebuilds a frozen teacher's maps"
    parameters = _PARAMETERS

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. Presets are written out; maps of one level need no mode."""
        full = with_preset(params, self.parameters, PRESETS)
        self.check_levels(full)
        gone = set(self.without_effect)
        if self._level_count(full) == 1:
            gone.add("map_mode")
        return {key: value for key, value in full.items() if key not in gone}

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`."""
        full = with_preset(params, self.parameters, PRESETS)
        made = settings(
            ReverseSettings,
            full,
            schedule=settings(Schedule, full, patience=full["patience"]),
            recalibrated=self.recalibrated,
        )
        extractor = self.extractor(full)
        return at_stride(
            lambda own: ReverseDistillationDetector(extractor, made, own),
            context,
            extractor.feature_info[-1].reduction,
        )

    def _level_count(self, full: Params) -> int:
        if self._subnet is not None:
            return len(self._subnet.feature_info)
        return len(choice(full, "layers").split("+"))
