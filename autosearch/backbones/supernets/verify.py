"""Whether a supernet is what it should be: tensors, subnets, agreement with a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autosearch.backbones.recalibration import recalibrate
from autosearch.backbones.supernets.elastic import ActiveSizes, ElasticOFA
from autosearch.backbones.supernets.feature_loss import normalise
from autosearch.backbones.supernets.image_pack import plain_batch
from autosearch.backbones.supernets.ofa_layout import (
    WIDTHS,
    channel_widths,
    parameter_count,
    plain_key,
)
from autosearch.backbones.supernets.ofa_mobilenetv3 import OFAMobileNetV3
from autosearch.backbones.supernets.teacher import Teacher
from autosearch.errors import WeightsError

_RANDOM_SUBNETS = 3
_IMAGES = 96


@dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes:
        width: Width multiplier.
        parameters: Number of learnt values.
        parity: Largest absolute difference between maps of static subnets and of the trainable
            network at the same sizes; rounding at most.
        agreement: Per subnet, with stored and with recalibrated statistics, the correlation with
            the teacher at the end of each stage; None where the teacher has no map.
    """

    width: float
    parameters: int
    parity: float
    agreement: dict[str, list[float | None]]


def verify_state(
    state: Mapping[str, Tensor],
    teacher: Teacher | None = None,
    crops: NDArray[np.uint8] | None = None,
    size: int = 224,
) -> Verification:
    """Check the tensors of a supernet.

    Args:
        state: Tensors under any of the released key styles.
        teacher: What to compare features with; without it there is no agreement.
        crops: ``(N, 256, 256, 3)`` uint8 images to compare on.
        size: Side to which they are resized.

    Raises:
        WeightsError: If the tensors are of no supernet, or not all finite.
    """
    width = width_of(state)
    supernet = OFAMobileNetV3(width, state)
    broken = [name for name, tensor in supernet.state.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(f"{len(broken)} tensors are not finite: {', '.join(broken[:3])}")
    agreement = {}
    if teacher is not None and crops is not None:
        chosen = crops[:: max(1, len(crops) // _IMAGES)][:_IMAGES]
        agreement = _agreement(supernet, teacher, plain_batch(chosen, size))
    return Verification(width, parameter_count(width), _parity(supernet), agreement)


def width_of(state: Mapping[str, Tensor]) -> float:
    """Tell the width multiplier by the stem.

    Raises:
        WeightsError: If there is no stem of a supernet.
    """
    stems = [tensor for key, tensor in state.items() if plain_key(key) == "first_conv.conv.weight"]
    for width in WIDTHS:
        if stems and stems[0].shape[:1] == (channel_widths(width)[0],):
            return width
    raise WeightsError("not the weights of an OFA-MobileNetV3: its stem is missing")


def _subnets() -> dict[str, ActiveSizes]:
    draw = np.random.default_rng(0)
    drawn = {f"random {i}": ActiveSizes.random(draw) for i in range(_RANDOM_SUBNETS)}
    return {"largest": ActiveSizes.largest(), "smallest": ActiveSizes.smallest(), **drawn}


def _parity(supernet: OFAMobileNetV3) -> float:
    net = ElasticOFA(supernet.width, supernet.state)
    net.training = False
    images = torch.rand((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    worst = 0.0
    with torch.no_grad():
        for sizes in _subnets().values():
            static = supernet.subnet(sizes.architecture(supernet.width))(images)
            for a, b in zip(static, net.forward(images, sizes)[1:], strict=True):
                worst = max(worst, (a - b).abs().max().item())
    return worst


def _agreement(
    supernet: OFAMobileNetV3, teacher: Teacher, images: Tensor
) -> dict[str, list[float | None]]:
    found = {}
    with torch.no_grad():
        targets = teacher(images)[1:]
        for name, sizes in _subnets().items():
            stored = supernet.subnet(sizes.architecture(supernet.width))
            fresh = recalibrate(stored, images)
            for kind, extractor in (("stored", stored), ("recalibrated", fresh)):
                maps = extractor(normalise(images))
                found[f"{name}, {kind}"] = [
                    None if target is None else channel_correlation(answer, target)
                    for answer, target in zip(maps, targets, strict=True)
                ]
    return found


def channel_correlation(answer: Tensor, target: Tensor) -> float:
    """Mean over channels of the correlation between two maps, at most 1.

    If the target has more channels, the best linear map from the answer's channels is found on
    the first half of the images and judged on the second. Channels that never vary count 0.

    Args:
        answer: ``(N, C, H, W)``.
        target: ``(N, C', H, W)``.
    """
    a, b = (maps.transpose(0, 1).flatten(2).double() for maps in (answer, target))
    if len(b) > len(a):
        half = max(1, a.shape[1] // 2)
        ones = torch.ones_like(a[:1])
        inputs = torch.cat([a, ones])
        fit = torch.linalg.lstsq(inputs[:, :half].flatten(1).T, b[:, :half].flatten(1).T).solution
        a, b = torch.einsum("cnp,cd->dnp", inputs[:, half:], fit), b[:, half:]
    a, b = a[: len(b)].flatten(1), b.flatten(1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    norms = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(norms > 0, (a * b).sum(1) / norms.clamp_min(1e-300), 0.0).mean().item()
