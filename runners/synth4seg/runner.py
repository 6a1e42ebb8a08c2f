"""Synth4Seg as a searchable runner: sources, what the outer loop learns and how, networks."""

from __future__ import annotations

from autosearch.contracts import ParameterInfo, TrialContext, with_defaults
from autosearch.errors import ConfigError, Infeasible, did_you_mean
from autosearch.spec import Params, StudySpec, integer, number
from autosearch.synthesis import CutPasteSettings

from ..parameters import drawn, epochs, images_per_epoch, learning_rate, settings, switch
from ..pretrained import PretrainedRunner
from .detector import Synth4SegDetector, Synth4SegSettings
from .hypergradients import METHODS
from .networks import ENCODERS
from .poisson import load_opencv
from .sources import COMBINED, NAMES, PASTING, SOURCES, SourceSettings
from .training import BilevelSettings

_LOCATION_DEFAULTS: Params = {"warmup_fraction": 0.5, "epochs": 60, "halve_every_fraction": 0.5}
"""Published defaults that are others where places are learnt."""

_SHARED = {
    "outer_task": ParameterInfo(
        "source_weights",
        "what the outer loop learns",
        choices=("none", "source_weights", "location", "both"),
    ),
    "sources": ParameterInfo("all", f"all, or some of {', '.join(NAMES)}, joined by +", text=True),
    "encoder": ParameterInfo(ENCODERS[0], "timm model of the way down", choices=ENCODERS),
    "decoder_width": ParameterInfo(
        256, "channels of the deepest block on the way up", choices=(256, 128, 64, 32)
    ),
    "lr": learning_rate(2.5e-4, "learning rate of the inner loop"),
    "halve_every_fraction": ParameterInfo(
        0.2, "share of the epochs after which lr is halved; with locations 0.5", low=0.01, high=1
    ),
    "batch": ParameterInfo(2, "images of each source a step", low=2, high=128),
    "epochs": epochs(150, "how many; with locations 60"),
    "images_per_epoch": images_per_epoch(200, "images drawn an epoch, per source"),
    "checkpoint": ParameterInfo(
        "best", "the epoch of the best validation IoU, or the last", choices=("best", "last")
    ),
}
_NORMALS = {
    "outer_normals": switch(False, "normal images of validation count for training, too"),
}
_FIXED = {
    "fixed_source": ParameterInfo(
        "first", "whose weight is 1; first of those in use", choices=("first", *NAMES)
    ),
}
_WEIGHTS = {
    f"weight.{name}": ParameterInfo(1.0, "of a source, if not learnt; 0: none", low=0, high=10)
    for name in NAMES
}
_OUTER = {
    "method": ParameterInfo("neumann", "how hypergradients are taken", choices=tuple(METHODS)),
    "outer_interval": ParameterInfo(1, "inner steps per outer step", low=1, high=1000),
    "outer_batch": ParameterInfo(
        4, "validation images an outer step; all if there are no more", low=1, high=256
    ),
    "outer_grad_clip": ParameterInfo(10.0, "longest hypergradient; 0 for any", low=0, high=1000),
    "warmup_fraction": ParameterInfo(
        0.2, "share of the steps before the first outer one; with locations 0.5", low=0, high=0.9
    ),
}
_TERMS = {
    "neumann_terms": ParameterInfo(
        3, "most terms of the series after the first, or as many steps", low=0, high=100
    ),
}
_SCALE_RULE = {
    "scale_rule": ParameterInfo(
        "inner_lr",
        "where the scale comes from: lr as it is by then, the curvature, or neumann_scale",
        choices=("inner_lr", "auto", "value"),
    ),
}
_SCALE = {
    "neumann_scale": ParameterInfo(
        1e-2, "scale of the series; no more than curvature allows", low=1e-6, high=10
    ),
}
_DAMPING = {
    "damping": ParameterInfo(0.0, "added to every eigenvalue", low=0, high=100),
}
_LEARNT = {
    "outer_lr_weights": ParameterInfo(
        1e-2, "learning rate of the source weights", low=1e-6, high=1
    ),
    "constraint": ParameterInfo(
        "projection", "how weights stay positive", choices=("projection", "softplus")
    ),
}
_LOCATION = {
    "outer_lr_location": ParameterInfo(
        1e-4, "learning rate of the location net", low=1e-7, high=0.1
    ),
    "location_threshold": ParameterInfo(0.6, "places must be above it", low=0, high=1),
    "normalise_factors": switch(False, "divide losses by the sum of their factors"),
    "gamma": ParameterInfo(
        2.5e-8, "price of a place; as printed 1e-4, times the published scale", low=0, high=1
    ),
}
_PRICE = {
    "l1_reduction": ParameterInfo(
        "mean",
        "sum: the price is per pixel; mean: as if of 256 x 256",
        choices=("mean", "sum"),
    ),
}
_PASTING = {
    "paste_per_image": ParameterInfo(1, "defects pasted on an image", low=1, high=16),
    "targets": ParameterInfo("all", "what is pasted on", choices=("all", "normal")),
    "blend": ParameterInfo("direct", "poisson needs OpenCV", choices=("direct", "poisson")),
}
_VARIATIONS = {
    "photometric": {
        "photometric_range": ParameterInfo(
            0.9, "brightness, contrast, saturation by 1 -+ this", low=0, high=1
        ),
    },
    "rotation": {
        "rotation_range": ParameterInfo(30.0, "degrees to either side", low=0, high=180),
    },
    "shear": {
        "shear_range": ParameterInfo(0.3, "to either side", low=0, high=0.9),
    },
    "scale": {
        "scale_min": ParameterInfo(0.1, "least factor", low=0, high=4),
        "scale_max": ParameterInfo(2.0, "largest factor", low=0, high=4),
    },
}


class Synth4SegRunner(PretrainedRunner):
    """Searches how training images are made, and how validation steers that."""

    description = "Synth4Seg: cut & paste for a U-Net, steered by hypergradients"
    supervised = True
    probabilities = True
    parameters = (
        _SHARED | _NORMALS | _FIXED | _WEIGHTS | _OUTER | _TERMS | _SCALE_RULE | _SCALE | _DAMPING
        | _LEARNT | _LOCATION | _PRICE | _PASTING
        | {key: info for group in _VARIATIONS.values() for key, info in group.items()}
    )  # fmt: skip

    def __init__(self, spec: StudySpec) -> None:
        """Load every encoder that the space may draw."""
        super().__init__(spec)
        if spec.dataset.labelled is None:
            allowed = "shares such as {train: 0.48, val: 0.28}, since defects are learnt from"
            raise ConfigError("dataset.labelled", None, allowed)
        for text in drawn(spec, "sources"):
            parse_sources(str(text))
        if "poisson" in drawn(spec, "blend"):
            load_opencv()
        self._load(drawn(spec, "encoder", ENCODERS[0]))

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. What a part that is not in use would read does not remain.

        Sources come in one order, without those whose given weight is 0. Of given weights those of
        the others remain, beside that of the fixed one, which is 1; if all are 1, none.
        """
        full = with_defaults(params, self.parameters)
        learnt, located = _learnt(full), _located(full)
        if located:
            full |= {k: v for k, v in _LOCATION_DEFAULTS.items() if k not in params}
        names, fixed = _sources(full)
        pasting = set(names) & set(PASTING)
        if learnt and len(names) < 2:
            raise Infeasible(f"sources: {names[0]} alone, so there is no weight to learn")
        if located and not pasting:
            raise Infeasible(f"sources: {'+'.join(names)} paste nothing, so there are no places")
        full["sources"] = "all" if names == SOURCES else "+".join(names)
        full["fixed_source"] = fixed
        if full["method"] == "neumann" and full["neumann_terms"] == 0:
            full["method"] = "one_step"
        kept = {key for part in _parts_in_use(full, pasting) for key in part}
        others = [f"weight.{name}" for name in names if name != fixed]
        if learnt or any(full[key] != 1 for key in others):
            kept |= {"fixed_source"} if learnt else {"fixed_source", *others}
        canonical = {key: full[key] for key in self.parameters if key in kept}
        if "scale_min" in kept and number(full, "scale_min") > number(full, "scale_max"):
            raise Infeasible("scale_min is above scale_max")
        return canonical

    def build(self, params: Params, context: TrialContext) -> Synth4SegDetector:
        """See `Runner.build`."""
        full = with_defaults(params, self.parameters)
        weights = self._weights[str(full["encoder"])]
        return Synth4SegDetector(weights.state, settings_of(full), context)


def parse_sources(text: str) -> tuple[str, ...]:
    """Names of sources from ``all`` or names joined by ``+``, in the order of `NAMES`.

    Raises:
        ConfigError: A name is unknown or stands twice.
    """
    if text == "all":
        return SOURCES
    names = text.split("+")
    for name in names:
        if name not in NAMES:
            allowed = f"all, or names joined by +; {did_you_mean(name, NAMES)}"
            raise ConfigError("space.sources", text, allowed)
    if len(set(names)) < len(names):
        raise ConfigError("space.sources", text, "every name once")
    return tuple(sorted(names, key=NAMES.index))


def settings_of(full: Params) -> Synth4SegSettings:
    """All but the weights of a configuration that names every parameter."""
    names, fixed = _sources(full)
    given = tuple(1.0 if name == fixed else number(full, f"weight.{name}") for name in names)
    change = number(full, "photometric_range")
    rule = full["scale_rule"]
    variation = CutPasteSettings(
        photometric=(1 - change, 1 + change),
        rotation=number(full, "rotation_range"),
        shear=number(full, "shear_range"),
        scale=(number(full, "scale_min"), number(full, "scale_max")),
    )
    training = settings(
        BilevelSettings,
        full,
        terms=integer(full, "neumann_terms"),
        scale=number(full, "neumann_scale") if rule == "value" else rule,
        outer_grad_clip=number(full, "outer_grad_clip") or None,
        fixed_source=names.index(fixed),
        initial_weights=None if _learnt(full) else given,
    )
    return settings(
        Synth4SegSettings,
        full,
        sources=settings(SourceSettings, full, names=names, variation=variation),
        training=training,
    )


def _sources(full: Params) -> tuple[tuple[str, ...], str]:
    """The sources in use, and which of them has the fixed weight of 1."""
    names = parse_sources(str(full["sources"]))
    fixed = names[0] if full["fixed_source"] == "first" else str(full["fixed_source"])
    if fixed not in names:
        raise Infeasible(f"fixed_source {fixed} is not among the sources {'+'.join(names)}")
    if not _learnt(full):
        names = tuple(n for n in names if n == fixed or number(full, f"weight.{n}") > 0)
    return names, fixed


def _parts_in_use(full: Params, pasting: set[str]) -> list[dict[str, ParameterInfo]]:
    """Groups of parameters that have an effect, but for those of source weights."""
    method, outer = full["method"], full["outer_task"] != "none"
    parts = [_SHARED]
    parts += [_NORMALS] if outer or full["checkpoint"] == "best" else []
    if outer:
        parts += [_OUTER]
        parts += [_TERMS] if method != "one_step" else []
        if method == "conjugate_gradient":
            parts += [_DAMPING]
        else:
            parts += [_SCALE_RULE]
            parts += [_SCALE] if full["scale_rule"] == "value" else []
    parts += [_LEARNT] if _learnt(full) else []
    if _located(full):
        parts += [_LOCATION]
        parts += [_PRICE] if full["gamma"] else []
    if pasting:
        parts += [_PASTING]
        varied = set(_VARIATIONS) if COMBINED in pasting else pasting
        parts += [_VARIATIONS[name] for name in _VARIATIONS if name in varied]
    return parts


def _learnt(full: Params) -> bool:
    return full["outer_task"] in ("source_weights", "both")


def _located(full: Params) -> bool:
    return full["outer_task"] in ("location", "both")
