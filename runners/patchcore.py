"""Fixed pretrained backbones: which levels, how far to pool, how much of the bank to keep.

PatchCore's choices ("Towards Total Recall in Industrial Anomaly Detection") as a space: AutoPatch
compares itself with the levels of 1/8 and 1/16 resolution and neighbourhoods of 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from autosearch.backbones import TimmBackbone, timm_feature_info
from autosearch.contracts import ParameterInfo, TrialContext, with_defaults
from autosearch.errors import Infeasible
from autosearch.spec import Params, StudySpec

from .bank.parameters import PARAMETERS, WEIGHT, BankSettings, canonical_bank, check_backend
from .bank.post import names_after, post_of
from .memory_bank import MemoryBankDetector, smaller_size
from .parameters import BACKBONE, PATCH_SIZE, switch
from .presets import PRESET, backbones_of
from .pretrained import PretrainedRunner

_LEVELS = 6
_DEFAULT_LEVELS = (2, 3)


_PRESET = ParameterInfo(
    None,
    "where the defaults of the other parameters come from; null: this table",
    choices=(None, "original", "miad"),
)


def _parameters() -> dict[str, ParameterInfo]:
    known = {PRESET: _PRESET, "backbone": BACKBONE}
    for level in range(_LEVELS):
        known[f"level{level}.extract"] = switch(
            level in _DEFAULT_LEVELS, "whether the level's output becomes features"
        )
        known[f"level{level}.patch_size"] = PATCH_SIZE
        known[f"level{level}.weight"] = WEIGHT
    return known | PARAMETERS


PRESETS: dict[str, Params] = {
    "original": {
        "backbone": "wide_resnet50_2",
        **{f"level{level}.extract": level in _DEFAULT_LEVELS for level in range(_LEVELS)},
        **{f"level{level}.patch_size": 3 for level in _DEFAULT_LEVELS},
        "coreset_ratio": 0.1,
        "coreset_method": "kcenter",
        "coreset_pool": 10_000_000,  # All patches of any data set that fits into memory.
        "num_neighbors": 1,
        "image_score": "reweighted",
        "reweighting_neighbours": 9,
        "distance": "root",
        "smoothing": 4.0,
    },
}
"""What PatchCore's paper, and the library that MIAD's appendix takes it from, set; by name."""
PRESETS["miad"] = {**PRESETS["original"], "train_images": 2000}


class PatchCoreRunner(PretrainedRunner):
    """Searches levels, neighbourhoods and bank of backbones that stay as they are."""

    description = "fixed timm backbones: levels, patch sizes, coreset; memory bank"
    parameters = _parameters()
    post_parameters = names_after(parameters)
    elsewhere: ClassVar[Mapping[str, str]] = {
        "level*.*": "Deeper blocks of transformers: the runner foundation, by block1.depth"
    }

    def __init__(self, spec: StudySpec) -> None:
        """Load every backbone that the space may draw."""
        super().__init__(spec)
        check_backend(spec.memory.backend)
        self._load(backbones_of(spec, PRESETS, BACKBONE.default))
        self._levels = {name: len(timm_feature_info(name)) for name in self._weights}

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`. No patch size remains where nothing is extracted, no preset."""
        params = {**PRESETS.get(str(params.get(PRESET)), {}), **params}
        full = with_defaults(params, self.parameters)
        name = str(full["backbone"])
        levels = [level for level in range(_LEVELS) if full[f"level{level}.extract"]]
        if not levels:
            raise Infeasible("extract is false for all levels: there are no features")
        if levels[-1] >= self._levels[name]:
            raise Infeasible(
                f"{name} has no level {levels[-1]}, only 0 to {self._levels[name] - 1}"
            )
        kept: Params = {"backbone": name}
        for level in range(_LEVELS):
            # Stated even where it is false, or else the default would take its place.
            kept[f"level{level}.extract"] = level in levels
            if level in levels:
                kept[f"level{level}.patch_size"] = full[f"level{level}.patch_size"]
        return kept | canonical_bank(params, [f"level{level}" for level in levels])

    def build(self, params: Params, context: TrialContext) -> MemoryBankDetector:
        """See `Runner.build`."""
        name = str(params["backbone"])
        sizes = {level: params.get(f"level{level}.patch_size") for level in range(_LEVELS)}
        used = {level: int(size) for level, size in sizes.items() if size is not None}
        groups = [f"level{level}" for level in used]
        bank = BankSettings.of(params, self.spec.memory.backend, groups)
        size = smaller_size(context.image_size, bank.image_size) or context.image_size
        return MemoryBankDetector(
            TimmBackbone(name, tuple(used), self._weights[name].state, image_size=size),
            tuple(used.values()),
            bank,
            context,
        )

    def post_of(self, canonical: Params) -> frozenset[str]:
        """See `Runner.post_of`."""
        return post_of(canonical)
