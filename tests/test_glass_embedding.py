"""GLASS's patch vectors against unfolding, which builds every neighbourhood first."""

import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.glass.embedding import MixedPatchFeatures, make_embedding
from torch import Tensor

from autosearch.backbones.complexity import profile
from autosearch.backbones.features import FeatureExtractor, FeatureInfo
from autosearch.errors import ConfigError


class Fixed(FeatureExtractor):
    """Returns the same maps whatever it is shown."""

    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)

    def __init__(self, maps: list[Tensor], side: int = 32) -> None:
        super().__init__()
        self.maps = maps
        self.feature_info = tuple(
            FeatureInfo(i, m.shape[1], side // m.shape[-1], f"m{i}") for i, m in enumerate(maps)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        return [m.expand(len(images), -1, -1, -1) for m in self.maps]


def by_unfolding(maps: list[Tensor], patch_size: int, channels: int) -> Tensor:
    """Section B's recipe word by word: unfold, resize every kernel element, pool twice."""
    side, rows = maps[0].shape[-1], []
    for features in maps:
        count, depth, own, _ = features.shape
        patches = F.unfold(features, patch_size, padding=patch_size // 2)
        patches = patches.view(count, depth * patch_size**2, own, own)
        patches = F.interpolate(patches, (side, side), mode="bilinear", align_corners=False)
        flat = patches.permute(0, 2, 3, 1).reshape(count * side**2, 1, -1)
        rows.append(F.adaptive_avg_pool1d(flat, channels)[:, 0])
    stacked = torch.stack(rows, dim=1).reshape(len(rows[0]), 1, -1)
    pooled = F.adaptive_avg_pool1d(stacked, channels)[:, 0]
    return pooled.view(-1, side, side, channels).permute(0, 3, 1, 2)


@pytest.mark.parametrize("patch_size", [1, 3, 5])
@pytest.mark.parametrize(
    ("depths", "channels"),
    [((8, 16), 24), ((8, 16), 6), ((6, 10, 7), 9), ((5, 7), 64), ((4,), 12), ((3, 5, 11), 16)],
)
def test_mixed_bins_are_those_of_unfolding(depths, channels, patch_size) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.rand(2, depth, 8 >> level, 8 >> level, generator=generator)
        for level, depth in enumerate(depths)
    ]
    features = MixedPatchFeatures(Fixed(maps), patch_size, channels)
    expected = by_unfolding(maps, patch_size, channels)
    torch.testing.assert_close(features.mix(maps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("channels", "expected"), [(6, [1, 4, 7, 10, 13, 16]), (3, [2.5, 8.5, 14.5])]
)
def test_bins_run_over_columns_then_rows_then_channels(channels, expected) -> None:
    maps = [torch.arange(18.0).view(1, 2, 3, 3)]
    features = MixedPatchFeatures(Fixed(maps), 3, channels)
    assert features.mix(maps)[0, :, 1, 1].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["mixed", "mean"])
def test_constant_maps_keep_their_value_but_for_the_border(kind) -> None:
    maps = [torch.full((1, 4, 8, 8), 2.0), torch.full((1, 8, 8, 8), 2.0)]
    vectors = make_embedding(kind, Fixed(maps), 3, 12)(torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(vectors[:, :, 1:-1, 1:-1], torch.full((1, 12, 6, 6), 2.0))
    assert (vectors[:, :, 0].mean(dim=1) < 1.9).all()


def test_mean_embedding_averages_every_channel_over_its_neighbourhood() -> None:
    maps = [torch.rand(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))]
    embedding = make_embedding("mean", Fixed(maps), 3, 999)
    vectors = embedding(torch.zeros(1, 3, 32, 32))
    assert embedding.channels == 4
    torch.testing.assert_close(vectors[0, :, 2, 3], maps[0][0, :, 1:4, 2:5].mean(dim=(1, 2)))


def test_pooling_costs_operations_but_has_nothing_to_learn() -> None:
    # 8 channels to 24 bins in 8 groups: 9 products a bin; 16 to 24 in 8 groups: 18.
    maps = [torch.rand(1, 8, 8, 8), torch.rand(1, 16, 4, 4)]
    counted = profile(MixedPatchFeatures(Fixed(maps), 3, 24), (1, 3, 32, 32))
    assert counted.macs == 24 * 9 * 64 + 24 * 18 * 16
    assert counted.parameters == 0


@pytest.mark.parametrize("patch_size", [0, 2])
def test_neighbourhoods_have_a_middle(patch_size) -> None:
    with pytest.raises(ConfigError, match="patch_size"):
        MixedPatchFeatures(Fixed([torch.rand(1, 4, 4, 4)]), patch_size, 8)
