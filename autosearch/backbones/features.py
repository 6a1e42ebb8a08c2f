"""From images to patch features: the contract of a feature extractor and what is built upon it."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from autosearch.errors import ConfigError, Infeasible

Grid = Literal["finest", "middle", "coarsest"]
"""Which extracted map's cells patches are."""

_SEPARABLE_FROM = 4
"""Kernel size from which two one-dimensional poolings beat one of ``p * p`` taps."""


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map that an extractor returns.

    Attributes:
        block: Number of the block or level, rising with depth.
        channels: Channels of the map.
        reduction: Input side divided by the side of the map.
        module: Dotted name of the submodule whose output the map is.
    """

    block: int
    channels: int
    reduction: int
    module: str


class FeatureExtractor(nn.Module, ABC):
    """A frozen backbone that ends at the last block whose output is needed.

    Attributes:
        feature_info: What `forward` returns, in block order.
        mean: Mean per RGB channel of the normalisation that the weights expect, for [0, 1] input.
        std: Standard deviation per RGB channel of the same normalisation.
        class_token: Channels of what `with_class_token` gives beside the maps; None where the
            backbone has no class token.
        layers_alone: Whether layers compute all products of matrices, so that `profile` need not
            look for others.
    """

    feature_info: tuple[FeatureInfo, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_token: int | None = None
    layers_alone = False

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Extract one map per entry of `feature_info`, running no layer after the last of them.

        Args:
            images: ``(N, 3, H, W)``, normalised with `mean` and `std`.

        Returns:
            Maps of ``(N, channels, H / reduction, W / reduction)``, sides rounded up; those of an
            extractor that resizes images (see `input_size`) are of the resized ones.
        """

    def with_class_token(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps, and from the same pass the class token of the last extracted block.

        Args:
            images: As of `forward`.

        Returns:
            The maps of `forward`, and ``(N, class_token)``.
        """
        raise NotImplementedError(f"{type(self).__name__} has no class token")

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width that images of a size are resized to in `forward`: usually theirs."""
        return size


class PatchFeatures(nn.Module):
    """Neighbourhood-aware features, one vector per patch (AutoPatch, section 3; after PatchCore).

    Every extracted map is average-pooled with its own patch size ``p``: stride 1, zero padding of
    ``(p - 1) // 2`` that counts in the mean. An odd ``p`` keeps the side, an even one shortens it
    by 1. The maps are then resized (see `resize`) to one extracted resolution and concatenated.

    Args:
        extractor: The backbone.
        patch_sizes: Pooling kernel per entry of the extractor's ``feature_info``, at least 1.
        grid: Which resolution that is; of an even number of maps the finer middle one.
        image_size: Height and width that images are resized to first; None leaves them.
        class_token: Whether the extractor's class token follows the vector of every patch, the
            same for all patches of an image.

    Attributes:
        channels: Length ``D`` of one patch vector, without the class token.
        class_channels: Of the class token, ``T``; 0 where it is not asked for.
        reduction: Side of what the extractor is given divided by the side of the patch grid.

    Raises:
        ConfigError: If there is not one positive patch size for every map.
        Infeasible: If a class token is asked for and there is none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        patch_sizes: Sequence[int],
        grid: Grid = "finest",
        image_size: tuple[int, int] | None = None,
        class_token: bool = False,
    ) -> None:
        super().__init__()
        if class_token and extractor.class_token is None:
            raise Infeasible("the backbone has no class token")
        self.class_channels = (extractor.class_token or 0) if class_token else 0
        info = extractor.feature_info
        if len(patch_sizes) != len(info) or any(size < 1 for size in patch_sizes):
            allowed = f"{len(info)} integers of at least 1, one per extracted map"
            raise ConfigError("patch_size", tuple(patch_sizes), allowed)
        self.extractor = extractor
        self.patch_sizes = tuple(patch_sizes)
        self.channels = sum(feature.channels for feature in info)
        self._place = {"finest": 0, "middle": (len(info) - 1) // 2, "coarsest": -1}[grid]
        self.reduction = sorted(feature.reduction for feature in info)[self._place]
        # Once is enough, and sharper than twice.
        self.image_size = None if image_size is None else extractor.input_size(image_size)
        self.register_buffer("mean", torch.tensor(extractor.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(extractor.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the patch grid of a batch.

        Args:
            images: ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``(N, D + T, h, w)``, with ``(h, w)`` the sides of the map that the grid is of.

        Raises:
            Infeasible: If a map of one row or column meets an even patch size.
        """
        if self.image_size is not None:
            images = resize(images, self.image_size)
        normalised, token = (images - self.mean) / self.std, None
        if self.class_channels:
            maps, token = self.extractor.with_class_token(normalised)
        else:
            maps = self.extractor(normalised)
        # Maps of one resolution come first where reductions tie, so any of them may be the target.
        sizes = sorted((tuple(m.shape[-2:]) for m in maps), key=math.prod, reverse=True)
        target = sizes[self._place]
        pooled = [pool_patches(m, p) for m, p in zip(maps, self.patch_sizes, strict=True)]
        parts = [resize(m, target) for m in pooled]
        if token is not None:
            parts.append(token[:, :, None, None].expand(-1, -1, *target))
        return torch.cat(parts, dim=1)


def pool_patches(features: Tensor, patch_size: int) -> Tensor:
    """Average pool with stride 1 and zero padding ``(p - 1) // 2`` that counts in the mean.

    Args:
        features: ``(N, C, H, W)``.
        patch_size: Kernel side ``p``.

    Returns:
        ``(N, C, H, W)`` for odd ``p``, ``(N, C, H - 1, W - 1)`` for even ``p``, channels last.

    Raises:
        Infeasible: If ``p`` is even and ``H`` or ``W`` is 1, so that nothing would be left.
    """
    height, width = features.shape[-2:]
    if patch_size % 2 == 0 and min(height, width) < 2:
        raise Infeasible(f"patch_size {patch_size} leaves nothing of a {height}x{width} map")
    # Pooling is an order of magnitude faster on a CPU when a pixel's channels lie side by side.
    features = features.contiguous(memory_format=torch.channels_last)
    pad = (patch_size - 1) // 2
    if patch_size < _SEPARABLE_FROM:
        return features if patch_size == 1 else F.avg_pool2d(features, patch_size, 1, pad)
    # Zeros count, so every window has p * p taps and the mean of means is the mean.
    rows = F.avg_pool2d(features, (patch_size, 1), 1, (pad, 0))
    return F.avg_pool2d(rows, (1, patch_size), 1, (0, pad))


def to_patches(features: Tensor) -> Tensor:
    """Flatten ``(N, D, h, w)`` into one row per patch, ``(N * h * w, D)``, images outermost."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def optimise_for_inference(extractor: FeatureExtractor, image_size: int = 64) -> FeatureExtractor:
    """Copy an extractor into the form that runs fastest: norms folded, weights channels last.

    Call it after complexity was counted and after any recalibration of batch norms: neither is
    possible on the result.

    Args:
        extractor: The backbone, which stays as it is.
        image_size: Side of a square input that the extractor accepts.

    Returns:
        An extractor whose maps differ by rounding only.
    """
    folded = fold_batch_norm(extractor, image_size)
    return folded.to(memory_format=torch.channels_last)


def fold_batch_norm(extractor: FeatureExtractor, image_size: int = 64) -> FeatureExtractor:
    """Copy an extractor with every batch norm that follows a convolution folded into its weights.

    Pairs are found by running the copy once: a norm is folded if its input is the very tensor that
    a convolution returned. Activations that timm keeps inside its norm layers stay in place.

    Args:
        extractor: The backbone in evaluation mode, which stays as it is.
        image_size: Side of a square input that the extractor accepts.

    Returns:
        An extractor whose maps differ by rounding only.
    """
    extractor = copy.deepcopy(extractor).eval()
    names = {module: name for name, module in extractor.named_modules()}
    for conv, norm in _conv_norm_pairs(extractor, image_size):
        _replace(extractor, names[conv], fuse_conv_bn_eval(conv, norm))
        # timm's BatchNormAct2d is a batch norm that also drops and activates.
        rest = [getattr(norm, part) for part in ("drop", "act") if hasattr(norm, part)]
        _replace(extractor, names[norm], nn.Sequential(*rest) if rest else nn.Identity())
    return extractor.requires_grad_(False)


def _conv_norm_pairs(
    extractor: FeatureExtractor, image_size: int
) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find batch norms that read a convolution's output, each of the two called exactly once."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    inputs: list[tuple[nn.BatchNorm2d, Tensor]] = []

    def after_conv(module: nn.Module, args: Any, output: Tensor) -> None:
        outputs.append((module, output))  # type: ignore[arg-type]

    def before_norm(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs.append((module, args[0]))  # type: ignore[arg-type]

    handles: list[Any] = []
    for module in extractor.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(before_norm))
    try:
        if any(isinstance(module, nn.BatchNorm2d) for module in extractor.modules()):
            device = next(extractor.parameters()).device
            with torch.no_grad():
                extractor(torch.zeros(1, 3, image_size, image_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    # All tensors are still referenced here, so an identity cannot have been given away again.
    produced = {id(output): conv for conv, output in outputs}
    calls = [id(module) for module, _ in (*outputs, *inputs)]
    pairs = [(produced[id(read)], norm) for norm, read in inputs if id(read) in produced]
    return [
        (conv, norm) for conv, norm in pairs if calls.count(id(conv)) == calls.count(id(norm)) == 1
    ]


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)


def resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize, bilinear (``align_corners=False``), by operations that every runtime has.

    To half or less, squares of pixels are averaged first, so that none is left out.

    Args:
        maps: ``(N, C, H, W)``.
        size: Height and width wanted.
    """
    height, width = maps.shape[-2:]
    times = min(height // size[0], width // size[1])
    if times > 1:
        maps = F.avg_pool2d(maps, times)
    if tuple(maps.shape[-2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
