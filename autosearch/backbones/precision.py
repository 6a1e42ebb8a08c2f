"""A backbone computed in half precision or bfloat16, whose maps are float32 as all others.

Distances must stay in float32: squared distances pass the largest number of half precision.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from autosearch.backbones.features import FeatureExtractor, FeatureInfo
from autosearch.errors import ConfigError, Infeasible

Precision = Literal["float32", "bfloat16", "float16"]
"""Types that a backbone's products are computed in."""


def in_precision(
    extractor: FeatureExtractor, precision: Precision, device: str = "cpu"
) -> FeatureExtractor:
    """An extractor that computes its products in a shorter type, and returns float32.

    Weights stay float32; torch's autocast decides which operations are safe in the shorter type.
    bfloat16 is faster on CPUs with instructions for it, slower on others. A graph that is exported
    computes in float32: its runtime decides for itself.

    Args:
        extractor: The backbone, ready for inference; the result shares its weights.
        precision: ``float32`` returns it as it is.
        device: What it will run on, a torch device string.

    Raises:
        ConfigError: There is no such precision.
        Infeasible: float16 is asked for on a CPU.
    """
    if precision not in get_args(Precision):
        raise ConfigError("precision", precision, f"one of {', '.join(get_args(Precision))}")
    if precision == "float32":
        return extractor
    if precision == "float16" and torch.device(device).type == "cpu":
        raise Infeasible(
            "precision float16: CPUs compute it slower than float32, and its range is small; "
            "bfloat16 or float32 there"
        )
    return _Shorter(extractor, getattr(torch, precision)).eval()


class _Shorter(FeatureExtractor):
    """Another extractor under autocast."""

    def __init__(self, extractor: FeatureExtractor, kind: torch.dtype) -> None:
        super().__init__()
        self.extractor, self._kind = extractor, kind
        self.mean, self.std = extractor.mean, extractor.std
        self.class_token = extractor.class_token
        self.feature_info = tuple(
            FeatureInfo(i.block, i.channels, i.reduction, f"extractor.{i.module}")
            for i in extractor.feature_info
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`.

        Raises:
            Infeasible: Features are beyond the range of half precision.
        """
        with self._cast(images):
            maps = self.extractor(images)
        return [self._long(found) for found in maps]

    def with_class_token(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `FeatureExtractor.with_class_token`."""
        with self._cast(images):
            maps, token = self.extractor.with_class_token(images)
        return [self._long(found) for found in maps], self._long(token)

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """See `FeatureExtractor.input_size`."""
        return self.extractor.input_size(size)

    def _cast(self, images: Tensor) -> torch.autocast:
        exporting = torch.compiler.is_compiling()
        return torch.autocast(images.device.type, dtype=self._kind, enabled=not exporting)

    def _long(self, found: Tensor) -> Tensor:
        checked = self._kind == torch.float16 and not torch.compiler.is_compiling()
        if checked and not found.isfinite().all():
            raise Infeasible("precision float16: features pass 65504; bfloat16 or float32")
        return found.float()
