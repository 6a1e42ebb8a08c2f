"""Auto-encoders as a searchable runner: architecture, loss, training."""

from __future__ import annotations

from autosearch.contracts import ParameterInfo, Runner, TrialContext, with_defaults
from autosearch.spec import Params

from ..parameters import settings, switch
from ..presets import PRESET, preset, with_preset
from ..training import Schedule, schedule_parameters
from .detector import AutoEncoderDetector, AutoEncoderSettings

PRESETS: dict[str, Params] = {
    "original": {
        "architecture": "mvtec",
        "base_width": 32,
        "depth": 5,
        "code_size": 100,
        "loss": "ssim",
        "smoothing_sigma": 0.0,
        "epochs": 200,
        "batch": 128,
        "images_per_epoch": 1_000_000,
        "lr": 2e-4,
        "weight_decay": 1e-5,
    },
    "miad": {
        "architecture": "unet",
        "base_width": 64,
        "depth": 4,
        "skips": True,
        "loss": "l2",
        "smoothing_sigma": 0.0,
        "epochs": 100,
        "batch": 16,
        "images_per_epoch": 1_000_000,
        "lr": 1e-4,
        "weight_decay": 5e-4,
    },
}

_DEFAULT = Schedule(epochs=60, batch=4, images_per_epoch=60, lr=1e-3)
_OF = {"code_size": "mvtec", "skips": "unet"}
"""Parameters of one architecture alone."""


_PARAMETERS = {
    PRESET: preset(PRESETS),
    "architecture": ParameterInfo(
        "mvtec", "through a code, a vector, or a U-Net", choices=("mvtec", "unet")
    ),
    "base_width": ParameterInfo(32, "channels of the finest maps", low=4, high=256),
    "depth": ParameterInfo(5, "how often maps are halved", choices=(4, 5)),
    "code_size": ParameterInfo(100, "numbers in the code of mvtec", low=1, high=4096),
    "skips": switch(
        True, "unet: connections past the coarse maps, by which anomalies can pass, too"
    ),
    "loss": ParameterInfo(
        "ssim",
        "squared difference, or 1 - SSIM; minimised on normal images, and the score of pixels",
        choices=("l2", "ssim"),
    ),
    "smoothing_sigma": ParameterInfo(2.0, "Gaussian over the map, pixels", low=0, high=64),
    "weight_decay": ParameterInfo(0.0, "of Adam, part of the gradient", low=0, high=0.1),
    **schedule_parameters(_DEFAULT),
}


class AutoEncoderRunner(Runner):
    """Searches what rebuilds images, and how it is told apart from them."""

    description = "auto-encoders: what they cannot rebuild is anomalous; trains a network"
    parameters = _PARAMETERS

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. A preset is written out; what is another architecture's goes."""
        full = with_preset(params, self.parameters, PRESETS)
        other = {name for name, owner in _OF.items() if full["architecture"] != owner}
        return {name: value for name, value in full.items() if name not in other}

    def build(self, params: Params, context: TrialContext) -> AutoEncoderDetector:
        """See `Runner.build`."""
        full = with_defaults(params, self.parameters)
        found = settings(AutoEncoderSettings, full, schedule=settings(Schedule, full))
        return AutoEncoderDetector(found, context)
