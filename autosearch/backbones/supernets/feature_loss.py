"""What a distillation minimises: the distance between feature maps at the ends of the stages."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from autosearch.backbones.supernets.elastic import ActiveSizes, ElasticOFA
from autosearch.backbones.supernets.ofa_layout import STAGES
from autosearch.backbones.supernets.ofa_mobilenetv3 import OFASubnet
from autosearch.backbones.supernets.teacher import Teacher

_CHUNK = 64

Batches = Callable[[NDArray[np.int64]], Tensor]
"""Makes ``(N, 3, H, W)`` images in [0, 1] of the indices of N images."""


class FeatureLoss:
    """Mean squared error per map, in units of the teacher's variance per channel.

    A map with at least as many channels as the teacher's is compared in the first of them;
    otherwise a learnt 1x1 convolution leads to the teacher's, at first an identity on top of the
    teacher's mean: channels of transformers are often far from 0.

    Args:
        teacher: The teacher.
        net: The supernet; only its widths are read.
        batches: Source of images.
        indices: Images on which the teacher's variances are measured.

    Attributes:
        projections: The 1x1 convolutions, by place among the maps and by kind.
    """

    def __init__(
        self, teacher: Teacher, net: ElasticOFA, batches: Batches, indices: NDArray[np.int64]
    ) -> None:
        self.teacher = teacher
        self.projections = _projections(teacher, net)
        with torch.no_grad():
            chunks = [teacher(batches(chunk)) for chunk in in_chunks(indices)]
        # Maps that the teacher lacks need no scale, but a place.
        self._scales = [torch.ones(())] * len(teacher.taps)
        for place, maps in enumerate(zip(*chunks, strict=True)):
            if maps[0] is None:
                continue
            seen = torch.cat(maps)
            self._scales[place] = seen.std((0, 2, 3), keepdim=True)
            if f"{place}.bias" in self.projections:
                with torch.no_grad():
                    self.projections[f"{place}.bias"].copy_(seen.mean((0, 2, 3)))

    def losses(
        self,
        net: ElasticOFA,
        images: Tensor,
        targets: list[Tensor | None],
        sizes: ActiveSizes,
        own: NDArray[np.bool_],
    ) -> list[Tensor | None]:
        """Compare the maps of a subnet with the teacher's.

        Args:
            net: The supernet.
            images: ``(N, 3, H, W)`` in [0, 1].
            targets: The teacher's maps of these images.
            sizes: What is active.
            own: Per stage, whether it reads the subnet's output of the stage before it or, where
                channels allow, the teacher's.

        Returns:
            Of block 0 and of each stage, a scalar or None where the teacher has no map.
        """
        maps = [net.entry(normalise(images))]
        for stage in range(STAGES):
            # Block 0 cannot be like any teacher's, so stage 0 always reads it as it is.
            target = None if own[stage] or stage == 0 else targets[stage]
            maps.append(net.stage(stage, _forced(maps[-1], target), sizes))
        pairs = enumerate(zip(maps, targets, strict=True))
        return [None if t is None else self._distance(place, m, t) for place, (m, t) in pairs]

    def held_out(
        self, net: ElasticOFA, batches: Batches, indices: NDArray[np.int64], seed: int
    ) -> dict[str, list[float | None]]:
        """Losses of the largest, the smallest and a random subnet, all stages on their own.

        Batch norms use the statistics of these images, which is what recalibration gives, and the
        supernet keeps those it has.

        Args:
            net: The supernet.
            batches: Source of images.
            indices: Images to measure on.
            seed: Of the random subnet.
        """
        draw = np.random.default_rng(seed)
        subnets = {
            "largest": ActiveSizes.largest(),
            "smallest": ActiveSizes.smallest(),
            "random": ActiveSizes.random(draw),
        }
        sums: dict[str, list[float | None]] = {kind: [None] * (STAGES + 1) for kind in subnets}
        net.training, net.momentum = True, None
        own = np.ones(STAGES, dtype=bool)
        with torch.no_grad():
            for chunk in in_chunks(indices):
                images = batches(chunk)
                targets = self.teacher(images)
                for kind, sizes in subnets.items():
                    for place, loss in enumerate(self.losses(net, images, targets, sizes, own)):
                        if loss is not None:
                            share = loss.item() * len(chunk) / len(indices)
                            sums[kind][place] = (sums[kind][place] or 0.0) + share
        return sums

    def _distance(self, place: int, features: Tensor, target: Tensor) -> Tensor:
        if f"{place}.weight" in self.projections:
            weight, bias = (self.projections[f"{place}.{kind}"] for kind in ("weight", "bias"))
            features = F.conv2d(features, weight, bias)
        scale = self._scales[place] + 1e-3  # channels of no variance must not weigh without bound
        return F.mse_loss(features[:, : target.shape[1]] / scale, target / scale)


def normalise(images: Tensor) -> Tensor:
    """Bring ``(N, 3, H, W)`` in [0, 1] to the supernet's normalisation."""
    mean, std = (images.new_tensor(v).view(3, 1, 1) for v in (OFASubnet.mean, OFASubnet.std))
    return (images - mean) / std


def spread(indices: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Up to ``number`` of the indices, evenly spread."""
    if len(indices) <= number:
        return indices
    chosen: NDArray[np.int64] = np.linspace(0, len(indices) - 1, number).round().astype(np.int64)
    return indices[chosen]


def in_chunks(indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cut indices into parts of equal size that fit into memory as images."""
    return np.array_split(indices, -(-len(indices) // _CHUNK))


def _forced(own: Tensor, teacher: Tensor | None) -> Tensor:
    """Put the teacher's channels in place of the first of a map, if there is room for them."""
    if teacher is None or teacher.shape[1] > own.shape[1]:
        return own
    if teacher.shape[1] == own.shape[1]:
        return teacher
    return torch.cat([teacher, own[:, teacher.shape[1] :]], 1)


def _projections(teacher: Teacher, net: ElasticOFA) -> dict[str, Tensor]:
    projections: dict[str, Tensor] = {}
    widths = [net.tensors["blocks.0.conv.point_linear.conv.weight"].shape[0]]
    widths += [net.blocks[4 * stage + 1].outputs for stage in range(STAGES)]
    for place, (tap, width) in enumerate(zip(teacher.taps, widths, strict=True)):
        if tap is not None and tap.channels > width:
            weight = torch.eye(tap.channels, width).view(tap.channels, width, 1, 1)
            projections[f"{place}.weight"] = weight.clone().requires_grad_()
            projections[f"{place}.bias"] = torch.zeros(tap.channels, requires_grad=True)
    return projections
