"""DRAEM as a searchable runner: how anomalies are made, and what learns to see them."""

from __future__ import annotations

from autosearch.contracts import ParameterInfo, Runner, TrialContext, with_defaults
from autosearch.errors import ConfigError
from autosearch.spec import Params, StudySpec

from ..parameters import drawn, settings
from ..presets import PRESET, preset, with_preset
from ..training import Schedule, schedule_parameters
from .anomalies import AnomalySettings
from .detector import DraemDetector, DraemSettings
from .operations import TEXTURE_OPS

ORIGINAL: Params = {
    "base_width": 128,
    "disc_width": 64,
    "texture_ops": "original",
    "n_texture_ops": 3,
    "rotation_degrees": 90.0,
    "smoothing": 21,
    "epochs": 700,
    "batch": 8,
    "images_per_epoch": 1_000_000,
    "lr": 1e-4,
}
"""As the authors' code trains."""
PRESETS: dict[str, Params] = {
    "original": ORIGINAL,
    "miad": ORIGINAL | {"texture_ops": "miad", "rotation_degrees": 45.0},
}

_DEFAULT = Schedule(epochs=40, batch=4, images_per_epoch=60, lr=3e-3)


_PARAMETERS = {
    PRESET: preset(PRESETS),
    "base_width": ParameterInfo(
        8, "channels of the finest maps of the network that repairs", low=4, high=256
    ),
    "disc_width": ParameterInfo(
        8, "channels of the finest maps of the network that sees", low=4, high=256
    ),
    "smoothing": ParameterInfo(
        21,
        "side in pixels of the window whose mean is a pixel's score",
        choices=(1, 3, 5, 7, 11, 15, 21, 31),
    ),
    "texture_source": ParameterInfo(
        "auto",
        "auto: the spec's folder if there is one, else procedural",
        choices=("auto", "folder", "self", "procedural"),
    ),
    "texture_ops": ParameterInfo(
        "original",
        "the ten operations of the code, or the seven of the paper and of MIAD",
        choices=tuple(TEXTURE_OPS),
    ),
    "n_texture_ops": ParameterInfo(3, "operations on a texture", low=1, high=4),
    "blend_max": ParameterInfo(
        0.8, "largest share of the original under a mask, drawn from 0 on", low=0, high=0.95
    ),
    "perlin_max_exp": ParameterInfo(5, "noise has up to 2^this periods a side", low=0, high=10),
    "perlin_threshold": ParameterInfo(0.5, "noise above it is anomalous", low=0, high=0.95),
    "rotation_degrees": ParameterInfo(
        90.0, "three of ten images are turned by up to this, either way", low=0, high=180
    ),
    **schedule_parameters(_DEFAULT),
}


class DraemRunner(Runner):
    """Searches how anomalies are made, and how large the networks are."""

    description = "DRAEM: repairs synthetic anomalies and sees where; trains two U-Nets"
    probabilities = True
    reads = frozenset({"synthesis.textures"})
    parameters = _PARAMETERS

    def __init__(self, spec: StudySpec) -> None:
        """Check that a folder of textures is named where one may be drawn."""
        super().__init__(spec)
        if "folder" in drawn(spec, "texture_source") and spec.synthesis.textures is None:
            allowed = "auto, self or procedural, since synthesis.textures names no folder"
            raise ConfigError("space.texture_source", "folder", allowed)

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. A preset is written out."""
        full = with_preset(params, self.parameters, PRESETS)
        if full["texture_source"] == "auto":
            full["texture_source"] = "folder" if self.spec.synthesis.textures else "procedural"
        return full

    def build(self, params: Params, context: TrialContext) -> DraemDetector:
        """See `Runner.build`."""
        full = with_defaults(params, self.parameters)
        source = str(full["texture_source"])
        found = settings(
            DraemSettings,
            full,
            textures=(self.spec.synthesis.textures or "") if source == "folder" else source,
            anomalies=settings(AnomalySettings, full),
            schedule=settings(Schedule, full),
        )
        return DraemDetector(found, context)
