"""GLASS as a searchable runner: radii, hypothesis, both kinds of synthesis, backbone, training."""

from __future__ import annotations

from autosearch.contracts import ParameterInfo, TrialContext, with_defaults
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import Params, StudySpec, integer, number
from autosearch.synthesis import SynthesisSettings

from ..frozen import FROZEN, FrozenBackboneRunner
from ..parameters import (
    drawn,
    epochs,
    images_per_epoch,
    learning_rate,
    settings,
    switch,
)
from .detector import GlassDetector, GlassSettings
from .feature_synthesis import AscentSettings
from .training import TrainingSettings

_PUBLISHED_BACKBONE = "wide_resnet50_2"

_SHARED = {
    **FROZEN,
    "embedding": ParameterInfo(
        "mixed",
        "mixed bins over channels, or the mean of every channel",
        choices=("mixed", "mean"),
    ),
    "embed_dim": ParameterInfo(1536, "length of a mixed vector", low=16, high=4096),
    "patch_size": ParameterInfo(3, "side of a vector's neighbourhood", choices=(1, 3, 5)),
    "feature_scale": ParameterInfo(
        "auto",
        "unit: divide vectors by the spread of normal ones; auto: raw for wide_resnet50_2 alone",
        choices=("auto", "unit", "raw"),
    ),
    "adaptor_layers": ParameterInfo(1, "linear layers of the adaptor", low=0, high=2),
    "disc_hidden": ParameterInfo(1024, "width of the discriminator", low=8, high=4096),
    "lr": learning_rate(1e-4, "learning rate; the discriminator's is twice it"),
    "batch": ParameterInfo(8, "normal images a step", low=1, high=128),
    "epochs": epochs(640, "passes over the images"),
    "images_per_epoch": images_per_epoch(392, "images seen after which a pass ends"),
    "smoothing_sigma": ParameterInfo(4.0, "Gaussian over the map, pixels", low=0, high=64),
    "mixed_precision": switch(False, "backbone in half precision during training: faster on GPUs"),
    "use_gas": switch(True, "anomalies made in feature space"),
    "use_las": switch(True, "anomalies made in image space"),
}
_GAS = {
    "noise_std": ParameterInfo(
        0.015, "noise per element of a vector of 1536; others scaled", low=1e-6, high=10
    ),
    "ascent_steps": ParameterInfo(20, "updates by gradient ascent", low=0, high=200),
}
_ASCENT = {
    "ascent_lr": ParameterInfo(1e-3, "length of an update", low=1e-8, high=10),
    "project_every": ParameterInfo(5, "updates between projections", low=1, high=200),
}
_MANIFOLD = {
    "manifold_radius": ParameterInfo(
        0.5, "least distance from the normal vector", low=1e-3, high=100
    ),
}
_SPHERE = {
    "coverage_quantile": ParameterInfo(
        0.75, "share of normal vectors inside the sphere", low=0, high=1
    ),
    "center": ParameterInfo(
        "location", "a centre per location, or one", choices=("location", "global")
    ),
}
_HYPOTHESIS = {
    "hypothesis": ParameterInfo(
        "auto", "where normal vectors lie", choices=("auto", "manifold", "hypersphere")
    ),
}
_RATIO = {
    "radius_ratio": ParameterInfo(2.0, "largest by least distance", low=1, high=100),
}
_LAS = {
    "blend_mean": ParameterInfo(0.5, "share of the original under a mask", low=0, high=1),
    "blend_std": ParameterInfo(0.1, "its standard deviation", low=0, high=1),
    "blend_min": ParameterInfo(0.2, "its least value", low=0, high=0.5),
    "blend_max": ParameterInfo(0.8, "its largest value", low=0.5, high=1),
    "perlin_max_exp": ParameterInfo(5, "noise has up to 2^this periods a side", low=0, high=10),
    "perlin_threshold": ParameterInfo(0.5, "noise above it is anomalous", low=0, high=0.95),
    "n_texture_ops": ParameterInfo(3, "operations on a texture", low=0, high=9),
    "texture_source": ParameterInfo(
        "auto",
        "auto: the spec's folder if there is one, else procedural",
        choices=("auto", "folder", "self", "procedural"),
    ),
    "use_foreground": switch(True, "anomalies on the object only"),
    "ohem_quantile": ParameterInfo(0.5, "share of easy patches not learnt from", low=0, high=0.99),
}


class GlassRunner(FrozenBackboneRunner):
    """Searches how anomalies are made, and what learns to see them."""

    description = "GLASS: synthetic anomalies in feature and image space; discriminator"
    reads = FrozenBackboneRunner.reads | {"synthesis.textures"}
    parameters = _SHARED | _GAS | _ASCENT | _HYPOTHESIS | _MANIFOLD | _SPHERE | _RATIO | _LAS

    def __init__(self, spec: StudySpec) -> None:
        """Load the backbone that the spec names, or every one that the space may draw."""
        super().__init__(spec)
        if "folder" in drawn(spec, "texture_source") and spec.synthesis.textures is None:
            allowed = "auto, self or procedural, since synthesis.textures names no folder"
            raise ConfigError("space.texture_source", "folder", allowed)

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. What a part that is not in use would read does not remain.

        An interval of projections longer than the ascent counts as the ascent's length. A searched
        backbone comes with the blocks whose maps are used.
        """
        full = with_defaults(params, self.parameters)
        if not full["use_gas"] and not full["use_las"]:
            raise Infeasible("use_gas and use_las are false: there are no anomalies to learn from")
        self.check_levels(full)
        full["project_every"] = min(integer(full, "project_every"), integer(full, "ascent_steps"))
        full["feature_scale"] = self._feature_scale(full)
        if full["texture_source"] == "auto":
            full["texture_source"] = "folder" if self.spec.synthesis.textures else "procedural"
        kept = {key for part in _parts_in_use(full) for key in part}
        if full["embedding"] == "mean":
            kept.remove("embed_dim")
        kept -= self.without_effect
        return {key: full[key] for key in self.parameters if key in kept}

    def build(self, params: Params, context: TrialContext) -> GlassDetector:
        """See `Runner.build`."""
        full = with_defaults(params, self.parameters)
        full["feature_scale"] = self._feature_scale(full)
        return GlassDetector(self.extractor(full), settings_of(self.spec, full), context)

    def _feature_scale(self, full: Params) -> str:
        """``raw`` or ``unit``: radii and noise are published for vectors of one backbone."""
        if full["feature_scale"] != "auto":
            return str(full["feature_scale"])
        name = "" if self.without_effect else str(full["backbone"])
        return "raw" if name.split(".")[0] == _PUBLISHED_BACKBONE else "unit"


def settings_of(spec: StudySpec, full: Params) -> GlassSettings:
    """All but the backbone of a configuration that names every parameter."""
    found = spec.backbone.architecture
    source = str(full["texture_source"])
    ascent = settings(
        AscentSettings, full, steps=integer(full, "ascent_steps"), rate=number(full, "ascent_lr")
    )
    synthesis = settings(
        SynthesisSettings,
        full,
        blend_clip=(number(full, "blend_min"), number(full, "blend_max")),
        cell=SynthesisSettings.cell,
    )
    return settings(
        GlassSettings,
        full,
        training=settings(TrainingSettings, full, ascent=ascent),
        synthesis=synthesis,
        textures=(spec.synthesis.textures or "") if source == "folder" else source,
        # Features are worth what they were in the trial only if they are made as in the trial.
        bn_recalibration=found is not None and bool(found.params.get("bn_recalibration")),
        cache_bytes=GlassSettings.cache_bytes,
    )


def _parts_in_use(full: Params) -> list[dict[str, ParameterInfo]]:
    """Groups of parameters that have an effect."""
    climbs = bool(full["use_gas"]) and integer(full, "ascent_steps") > 0
    parts = [_SHARED]
    parts += [_GAS] if full["use_gas"] else []
    parts += [_ASCENT] if climbs else []
    parts += [_LAS] if full["use_las"] else []
    if climbs or full["use_las"]:
        parts += [_HYPOTHESIS]
        sphere = full["hypothesis"] != "manifold"
        parts += [_MANIFOLD] if climbs and full["hypothesis"] != "hypersphere" else []
        parts += [_SPHERE] if sphere else []
        parts += [_RATIO] if climbs or sphere else []
    return parts
