"""UniAD as a searchable runner: backbone, grid, transformer, jitter and training."""

from __future__ import annotations

from autosearch.contracts import Detector, ParameterInfo, TrialContext
from autosearch.spec import Params, number

from ..frozen import LAYERS, FrozenBackboneRunner, frozen
from ..padded import at_stride
from ..parameters import settings
from ..presets import PRESET, preset, with_preset
from ..training import Schedule, schedule_parameters
from .detector import UniADDetector, UniADSettings
from .reconstruction import TransformerSettings

_AUTHORS: Params = {
    "backbone": "tf_efficientnet_b4.aa_in1k",
    "layers": "0+1+2+3",
    "stride": 16,
    "feature_scale": "raw",
    "hidden": 256,
    "heads": 8,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "feedforward": 1024,
    "dropout": 0.1,
    "neighbour_mask": 7,
    "jitter_scale": 20.0,
    "jitter_probability": 1.0,
    "mean_pool": 16,
    "batch": 64,
    "images_per_epoch": 1_000_000,
    "patience": None,
    "lr": 1e-4,
    "weight_decay": 1e-4,
    "mixed_precision": False,
}
PRESETS: dict[str, Params] = {
    "original": _AUTHORS | {"epochs": 1000},
    "miad": _AUTHORS | {"epochs": 500},
}
"""Of the released code on images of 224 x 224 pixels, and of MIAD's appendix."""

_WIDTHS = (16, 32, 64, 128, 256, 384, 512, 768, 1024)
"""Every number of heads divides each of them."""
_JITTER = "jitter_probability"
_PARAMETERS = {
    PRESET: preset(PRESETS),
    **frozen(
        "1+2+3",
        choices=(*LAYERS, "0+1+2+3"),
        help="levels whose maps are brought to one grid and put one behind the other",
    ),
    "stride": ParameterInfo(16, "side of a cell of this grid, pixels", choices=(8, 16, 32)),
    "feature_scale": ParameterInfo(
        "unit",
        "unit: every channel of normal features has mean 0 and deviation 1",
        choices=("unit", "raw"),
    ),
    "hidden": ParameterInfo(128, "channels of the transformer", choices=_WIDTHS),
    "heads": ParameterInfo(4, "heads of every attention", choices=(1, 2, 4, 8, 16)),
    "encoder_layers": ParameterInfo(2, "layers of the encoder", low=1, high=12),
    "decoder_layers": ParameterInfo(2, "layers of the decoder", low=1, high=12),
    "feedforward": ParameterInfo(256, "width behind every attention", low=8, high=4096),
    "dropout": ParameterInfo(
        0.0, "share of numbers that are left out in training", low=0, high=0.9
    ),
    "neighbour_mask": ParameterInfo(
        7,
        "side in cells of the square around a cell that it may not look at; null: none",
        choices=(None, 1, 3, 5, 7, 9, 11),
    ),
    "jitter_scale": ParameterInfo(
        20.0, "noise on features in training, times their norm / channels", low=0, high=1000
    ),
    _JITTER: ParameterInfo(1.0, "of a batch to be jittered", low=0, high=1),
    "mean_pool": ParameterInfo(
        16, "side in pixels of squares whose means the maps are", low=1, high=64
    ),
    **schedule_parameters(Schedule(epochs=100, batch=8, lr=1e-3)),
    "weight_decay": ParameterInfo(1e-4, "decay of weights", low=0, high=1),
}


class UniADRunner(FrozenBackboneRunner):
    """Searches what reconstructs features, and what keeps it from copying them."""

    description = "UniAD: a transformer reconstructs features without seeing them; distance"
    presets = PRESETS
    parameters = _PARAMETERS

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. Jitter that never comes counts as a scale of 0."""
        full = with_preset(params, self.parameters, PRESETS)
        self.check_levels(full)
        left_out = set(self.without_effect)
        if not number(full, "jitter_scale") or not number(full, _JITTER):
            full["jitter_scale"] = 0.0
            left_out.add(_JITTER)
        return {key: value for key, value in full.items() if key not in left_out}

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`.

        Raises:
            Infeasible: The images are too small, or the neighbour mask covers the grid.
        """
        full = with_preset(params, self.parameters, PRESETS)
        chosen = settings(
            UniADSettings,
            full,
            transformer=settings(TransformerSettings, full, neighbour_mask=full["neighbour_mask"]),
            schedule=settings(Schedule, full, patience=full["patience"]),
            bn_recalibration=self.recalibrated,
        )
        extractor = self.extractor(full)
        return at_stride(
            lambda own: UniADDetector(extractor, chosen, own),
            context,
            max(chosen.stride, *(info.reduction for info in extractor.feature_info)),
        )
