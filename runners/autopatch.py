"""AutoPatch: subnets of a Once-for-All MobileNetV3, where to extract, how far to pool.

Source: "Neural Architecture Search for Visual Anomaly Segmentation", Table 1. Five stages, each
with its kernel size, expansion ratio, extraction block and patch size, and one width for all.
"""

from __future__ import annotations

from typing import Any

from autosearch.backbones import (
    EXPAND_RATIOS,
    KERNEL_SIZES,
    MODEL_NAMES,
    STAGE_BLOCKS,
    STAGES,
    WIDTHS,
    OFAArchitecture,
    OFAMobileNetV3,
    kernel_transform_flops,
)
from autosearch.contracts import ParameterInfo, TrialContext, with_defaults
from autosearch.errors import Infeasible
from autosearch.spec import Params, StudySpec

from .bank.parameters import PARAMETERS, WEIGHT, BankSettings, canonical_bank, check_backend
from .bank.post import names_after, post_of
from .memory_bank import MemoryBankDetector
from .parameters import PATCH_SIZE, drawn, switch
from .pretrained import PretrainedRunner

_WIDTH = ParameterInfo(1.0, "width of all stages", choices=WIDTHS)
_DEFAULT_BLOCKS = {1: 6, 3: 14}


def _parameters() -> dict[str, ParameterInfo]:
    known = {"width": _WIDTH}
    for s in range(STAGES):
        blocks = (None, *STAGE_BLOCKS[s])
        known |= {
            f"stage{s}.kernel_size": ParameterInfo(
                3, "depthwise kernel of the stage's blocks", choices=KERNEL_SIZES
            ),
            f"stage{s}.expand_ratio": ParameterInfo(
                3, "expansion of the stage's blocks", choices=EXPAND_RATIOS
            ),
            f"stage{s}.extraction_block": ParameterInfo(
                _DEFAULT_BLOCKS.get(s), "block whose output becomes features", choices=blocks
            ),
            f"stage{s}.patch_size": PATCH_SIZE,
            f"stage{s}.weight": WEIGHT,
        }
    known["bn_recalibration"] = switch(False, "batch-norm statistics from the training images")
    return known | PARAMETERS


class AutoPatchRunner(PretrainedRunner):
    """Searches subnets of a supernet without training any."""

    description = "Once-for-All MobileNetV3 subnets, extraction blocks, patch sizes; memory bank"
    parameters = _parameters()
    post_parameters = names_after(parameters)

    def __init__(self, spec: StudySpec) -> None:
        """Load one supernet for every width that the space may draw."""
        super().__init__(spec)
        check_backend(spec.memory.backend)
        widths = drawn(spec, "width", _WIDTH.default)
        names = {width: name for name, width in MODEL_NAMES.items() if width in widths}
        self._load(names.values())
        self._supernets = {
            width: OFAMobileNetV3(width, self._weights[name].state)
            for width, name in names.items()
        }

    def canonical(self, params: Params) -> Params:
        """See `Runner.canonical`.

        Of stages behind the last extraction it remains that they have none, and no patch size
        where nothing is extracted. Depth follows from the extraction block.
        """
        full = with_defaults(params, self.parameters)
        blocks = [full[f"stage{s}.extraction_block"] for s in range(STAGES)]
        extracted = [s for s in range(STAGES) if blocks[s] is not None]
        if not extracted:
            raise Infeasible("extraction_block is null in all stages: there are no features")
        kept: Params = {"width": full["width"]}
        for s in range(STAGES):
            # Stated even where it is null, or else the default would take its place.
            names = ["kernel_size", "expand_ratio"] if s <= extracted[-1] else []
            names += ["extraction_block"]
            names += ["patch_size"] if s in extracted else []
            kept |= {f"stage{s}.{name}": full[f"stage{s}.{name}"] for name in names}
        kept["bn_recalibration"] = full["bn_recalibration"]
        return kept | canonical_bank(params, [f"stage{s}" for s in extracted])

    def build(self, params: Params, context: TrialContext) -> MemoryBankDetector:
        """See `Runner.build`."""
        architecture = architecture_of(params)
        subnet = self._supernets[architecture.width].subnet(architecture)
        sizes = {f"stage{s}": params.get(f"stage{s}.patch_size") for s in range(STAGES)}
        extracted = {stage: int(size) for stage, size in sizes.items() if size is not None}
        counted = self.spec.backbone.count_kernel_transform
        return MemoryBankDetector(
            subnet,
            tuple(extracted.values()),
            BankSettings.of(params, self.spec.memory.backend, tuple(extracted)),
            context,
            extra_flops=kernel_transform_flops(architecture) if counted else 0,
            bn_recalibration=bool(params["bn_recalibration"]),
        )

    def post_of(self, canonical: Params) -> frozenset[str]:
        """See `Runner.post_of`."""
        return post_of(canonical)


def architecture_of(canonical: Params) -> OFAArchitecture:
    """The subnet of a canonical configuration."""

    def stages(name: str, missing: int | None) -> tuple[Any, ...]:
        return tuple(canonical.get(f"stage{s}.{name}", missing) for s in range(STAGES))

    return OFAArchitecture(
        width=float(canonical["width"] or 0),
        kernel_sizes=stages("kernel_size", min(KERNEL_SIZES)),
        expand_ratios=stages("expand_ratio", min(EXPAND_RATIOS)),
        extraction_blocks=stages("extraction_block", None),
    )
