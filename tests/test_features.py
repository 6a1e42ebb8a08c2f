"""Patch features against closed forms of the specification and a second, naive computation."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from autosearch.backbones.features import (
    FeatureExtractor,
    FeatureInfo,
    PatchFeatures,
    fold_batch_norm,
    optimise_for_inference,
    pool_patches,
    to_patches,
)
from autosearch.errors import ConfigError, Infeasible


class Fixed(FeatureExtractor):
    """Returns given maps and remembers what it was asked with."""

    mean, std = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)

    def __init__(self, *maps: Tensor) -> None:
        super().__init__()
        self.maps = maps
        self.seen = torch.empty(0)
        self.feature_info = tuple(
            FeatureInfo(i, m.shape[1], 32 // m.shape[2], "maps") for i, m in enumerate(maps)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        self.seen = images
        return list(self.maps)


def naive_pool(features: np.ndarray, p: int) -> np.ndarray:
    pad = (p - 1) // 2
    padded = np.pad(features.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (p, p), axis=(2, 3))
    return windows.mean(axis=(4, 5))


def naive_resize(features: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with half-pixel centres and clamped borders, one axis after the other."""
    for axis in (2, 3):
        side = features.shape[axis]
        x = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, None)
        low = np.floor(x).astype(int)
        high = np.minimum(low + 1, side - 1)
        weight = np.expand_dims(x - low, tuple(range(1, 4 - axis)))
        features = features.take(low, axis) * (1 - weight) + features.take(high, axis) * weight
    return features


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_even_patch_size_vector():
    grid = torch.arange(16.0).view(1, 1, 4, 4)
    pooled = pool_patches(grid, 2)
    assert pooled.shape == (1, 1, 3, 3)
    assert pooled[0, 0, 0].tolist() == [2.5, 3.5, 4.5]
    assert pooled[0, 0, 1, 0] == 6.5
    resized = PatchFeatures(Fixed(grid), [2])(torch.zeros(1, 3, 4, 4))
    assert resized[0, 0, 0].tolist() == [2.5, 3.125, 3.875, 4.5]


def test_zeros_count_at_odd_borders_only():
    ones = torch.ones(1, 1, 4, 4)
    pooled = pool_patches(ones, 3)[0, 0]
    torch.testing.assert_close(pooled[0, 0], torch.tensor(4 / 9))
    torch.testing.assert_close(pooled[0, 1], torch.tensor(2 / 3))
    assert pool_patches(ones, 2).eq(1).all()


def test_bilinear_vector():
    small = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 1, 2, 2)
    large = torch.zeros(1, 1, 4, 4)
    grid = PatchFeatures(Fixed(large, small), [1, 1])(torch.zeros(1, 3, 4, 4))[0, 1]
    assert grid[0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert grid[1].tolist() == [0.5, 0.75, 1.25, 1.5]


@given(p=st.integers(1, 16), side=st.integers(2, 12), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_pooling_equals_sliding_windows(p: int, side: int, seed: int):
    features = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))
    expected = naive_pool(features.numpy(), p)
    assert expected.shape[-1] == (side if p % 2 else side - 1)
    np.testing.assert_allclose(pool_patches(features, p).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 2, 5), (16, 7, 16)])
def test_grid_equals_naive_computation(images: Tensor, sizes: tuple[int, ...]):
    maps = [torch.randn(2, c, s, s) for c, s in ((3, 8), (4, 4), (5, 2))]
    module = PatchFeatures(Fixed(*maps), sizes)
    expected = np.concatenate(
        [naive_resize(naive_pool(m.numpy(), p), 8) for m, p in zip(maps, sizes, strict=True)], 1
    )
    assert module.channels == expected.shape[1] == 12
    assert module.reduction == 4
    np.testing.assert_allclose(module(images).numpy(), expected, atol=1e-5)


def test_normalises_per_channel(images: Tensor):
    extractor = Fixed(torch.zeros(2, 1, 8, 8))
    PatchFeatures(extractor, [1])(images)
    expected = np.stack(
        [
            (images[:, 0].numpy() - 0.25) / 0.5,
            (images[:, 1].numpy() - 0.5) / 0.25,
            (images[:, 2].numpy() - 0.75) / 0.125,
        ],
        axis=1,
    )
    np.testing.assert_allclose(extractor.seen.numpy(), expected, rtol=1e-6)


def test_batch_of_one_keeps_its_axis():
    assert PatchFeatures(Fixed(torch.zeros(1, 1, 2, 2)), [2])(torch.zeros(1, 3, 8, 8)).shape == (
        (1, 1, 2, 2)
    )


def test_patches_stand_in_image_row_column_order():
    features = torch.arange(2 * 3 * 2 * 2).view(2, 3, 2, 2)
    patches = to_patches(features)
    assert patches.shape == (8, 3)
    assert patches[5].tolist() == features[1, :, 0, 1].tolist()


@pytest.mark.parametrize("sizes", [(1,), (1, 2, 3), (1, 0)])
def test_patch_sizes_must_fit_the_maps(sizes: tuple[int, ...]):
    with pytest.raises(ConfigError, match="patch_size"):
        PatchFeatures(Fixed(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)), sizes)


def test_even_patch_of_a_single_pixel_is_infeasible():
    with pytest.raises(Infeasible, match="patch_size 2"):
        pool_patches(torch.zeros(1, 1, 1, 1), 2)


def test_feature_info_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FeatureInfo(1, 2, 4, "a").channels = 3  # type: ignore[misc]


class Branching(FeatureExtractor):
    """Norms that may be folded and norms that may not: shared, applied twice, after no conv."""

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = (FeatureInfo(0, 4, 1, "last"),)
        self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.lonely = nn.BatchNorm2d(4)
        self.twice, self.twice_norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 4, 1, groups=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.lonely(self.norm(self.first(images)).relu())
        x = self.twice_norm(self.twice(x))
        return [self.last(self.twice_norm(self.twice(x)))]


def randomise_norms(module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def test_folding_touches_only_exact_pairs(images: Tensor):
    extractor = Branching().eval()
    randomise_norms(extractor)
    before = copy.deepcopy(extractor.state_dict())
    folded = fold_batch_norm(extractor)
    norms = [n for n, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms == ["lonely", "twice_norm"]
    with torch.no_grad():
        torch.testing.assert_close(folded(images), extractor(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            optimise_for_inference(extractor)(images), extractor(images), atol=1e-5, rtol=1e-5
        )
    assert all(torch.equal(before[k], v) for k, v in extractor.state_dict().items())
