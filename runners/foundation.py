"""Transformers, convolutional models and subnets of supernets side by side: which, which blocks?

Memory banks on blocks of vision transformers that stay as they are: the published ones (SuperADD,
arXiv 2605.14808; RAD, arXiv 2601.22763; AnomalyDINO, arXiv 2405.14529) are points of this space.
Blocks are named by their share of the depth, so that one space fits backbones of any depth.
"""

from __future__ import annotations

from dataclasses import replace

from autosearch.backbones import (
    DEFAULT_BACKBONE,
    MODEL_NAMES,
    TimmBackbone,
    timm_feature_info,
    timm_has_final_norm,
)
from autosearch.contracts import Detector, ParameterInfo, TrialContext, with_defaults
from autosearch.spec import Params, StudySpec, number

from .autopatch import AutoPatchRunner
from .bank.parameters import PARAMETERS, WEIGHT, BankSettings, canonical_bank, check_backend
from .bank.post import names_after, post_of
from .foundation_presets import PRESETS
from .memory_bank import MemoryBankDetector, smaller_size
from .parameters import PATCH_SIZE, switch
from .presets import PRESET, backbones_of
from .pretrained import PretrainedRunner

BLOCKS = 4
"""Most blocks whose outputs become features."""

_DIGITS = 4
"""Of a share of the depth in a canonical form: blocks of all models remain apart."""

_DEPTH = (
    "block whose output becomes features, as a share of the depth: of 12 blocks 0.75 is the 9th, "
    "1 the last; block i of L, from 0, is (i + 1) / L"
)
_STAGE_BLOCK = "extraction_block"


_USUAL_BLOCKS: Params = {
    name: info.default
    for name, info in AutoPatchRunner.parameters.items()
    if name.endswith(f".{_STAGE_BLOCK}")
}
_OF_SUPERNET = "of a supernet, block whose output becomes features; all null: " + " and ".join(
    f"{block} of {name.partition('.')[0]}" for name, block in _USUAL_BLOCKS.items() if block
)


def _parameters() -> dict[str, ParameterInfo]:
    known = {
        PRESET: ParameterInfo(
            None,
            "where the defaults of the other parameters come from; null: this table",
            choices=(None, *PRESETS),
        ),
        "backbone": ParameterInfo(
            DEFAULT_BACKBONE,
            "name of a timm model, or of a supernet, whose subnet and blocks `stage...` says",
            text=True,
        ),
    }
    for block in range(1, BLOCKS + 1):
        # The first is always there, so that no configuration is without features.
        depth = ParameterInfo(0.75, _DEPTH, low=0.001, high=1)
        if block > 1:
            depth = replace(depth, default=None, help="another such block; null: none")
        known[f"block{block}.depth"] = depth
        known[f"block{block}.patch_size"] = PATCH_SIZE
        known[f"block{block}.weight"] = WEIGHT
    known["final_norm"] = switch(
        False, "the norm behind the last block of a plain transformer, on tokens of every block"
    )
    for name, info in AutoPatchRunner.parameters.items():
        if name.endswith(f".{_STAGE_BLOCK}"):
            info = replace(info, default=None, help=_OF_SUPERNET)
        if name.startswith("stage") or name == "bn_recalibration":
            known[name] = info
    return known | PARAMETERS


class FoundationRunner(PretrainedRunner):
    """Searches backbones of all kinds, their blocks, and the bank that their features fill."""

    description = "transformers, timm's CNNs and supernet subnets, blocks by depth; memory bank"
    parameters = _parameters()
    post_parameters = names_after(parameters)

    def __init__(self, spec: StudySpec) -> None:
        """Load every backbone that the space may draw."""
        super().__init__(spec)
        check_backend(spec.memory.backend)
        names = backbones_of(spec, PRESETS, DEFAULT_BACKBONE)
        self._load(name for name in names if name not in MODEL_NAMES)
        self._levels = {name: len(timm_feature_info(name)) for name in self._weights}
        self._normed = {name for name in self._weights if timm_has_final_norm(name)}
        widths = [MODEL_NAMES[name] for name in names if name in MODEL_NAMES]
        self._subnets = AutoPatchRunner(_spec_of(spec, widths)) if widths else None

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`.

        Blocks are numbered by depth, whatever their order, and each has one share of the depth. Of
        two that fall together the first that is named remains. No preset does.
        """
        params = {**PRESETS.get(str(params.get(PRESET)), {}), **params}
        full = with_defaults(params, self.parameters)
        name = str(full["backbone"])
        if name in MODEL_NAMES:
            return {"backbone": name} | self._canonical_subnet(name, params)
        count, found = self._levels[name], dict[int, int]()
        for block in range(1, BLOCKS + 1):
            if full[f"block{block}.depth"] is not None:
                level = max(1, round(number(full, f"block{block}.depth") * count)) - 1
                found.setdefault(level, block)
        kept: Params = {"backbone": name}
        weights: Params = {}
        groups = []
        for place, (level, block) in enumerate(sorted(found.items()), start=1):
            groups.append(f"block{place}")
            kept[f"block{place}.depth"] = round((level + 1) / count, _DIGITS)
            kept[f"block{place}.patch_size"] = full[f"block{block}.patch_size"]
            weights[f"block{place}.weight"] = full[f"block{block}.weight"]
        if full["final_norm"] and name in self._normed:
            kept["final_norm"] = True
        return kept | canonical_bank({**params, **weights}, groups)

    def build(self, params: Params, context: TrialContext) -> Detector:
        """See `Runner.build`."""
        name = str(params["backbone"])
        if name in MODEL_NAMES:
            assert self._subnets is not None
            return self._subnets.build({**params, "width": MODEL_NAMES[name]}, context)
        groups = [f"block{n}" for n in range(1, BLOCKS + 1) if f"block{n}.depth" in params]
        bank = BankSettings.of(params, self.spec.memory.backend, groups)
        shares = [number(params, f"{group}.depth") for group in groups]
        size = smaller_size(context.image_size, bank.image_size) or context.image_size
        extractor = TimmBackbone(
            name,
            tuple(round(share * self._levels[name]) - 1 for share in shares),
            self._weights[name].state,
            final_norm=bool(params.get("final_norm")),
            image_size=size,
        )
        sizes = tuple(int(number(params, f"{group}.patch_size")) for group in groups)
        return FoundationDetector(extractor, sizes, bank, context)

    def post_of(self, canonical: Params) -> frozenset[str]:
        """See `Runner.post_of`."""
        return post_of(canonical)

    def weights(self) -> list[dict[str, str]]:
        """See `Runner.weights`."""
        return super().weights() + (self._subnets.weights() if self._subnets else [])

    def _canonical_subnet(self, name: str, params: Params) -> Params:
        """What AutoPatch says of a subnet; its width is that of the supernet."""
        assert self._subnets is not None
        blocks = {block: params.get(block) for block in _USUAL_BLOCKS}
        if all(number is None for number in blocks.values()):
            blocks = _USUAL_BLOCKS
        form = self._subnets.canonical({**params, **blocks, "width": MODEL_NAMES[name]})
        return {key: value for key, value in form.items() if key != "width"}


class FoundationDetector(MemoryBankDetector):
    """Tells the size of images that the network sees, where it is none of those asked for."""

    def figures(self) -> dict[str, float]:
        """See `Detector.figures`: sides in pixels, if they were brought to whole patches."""
        given = smaller_size(self._context.image_size, self._settings.image_size)
        given = given or self._context.image_size
        seen = self._extractor.input_size(given)
        sides = dict(zip(("network_height", "network_width"), map(float, seen), strict=True))
        return super().figures() | (sides if seen != given else {})


def _spec_of(spec: StudySpec, widths: list[float]) -> StudySpec:
    """A study as AutoPatch would search the supernets alone."""
    study = spec.study.model_copy(update={"runner": "autopatch"})
    space = {"width": sorted(set(widths))}
    return spec.model_copy(update={"study": study, "space": space, "start": []})
