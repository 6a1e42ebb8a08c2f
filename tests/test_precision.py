"""Backbones computed in shorter types: float32 maps, near those of float32, none in graphs."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, FeatureInfo, PatchFeatures, TimmBackbone
from autosearch.backbones.precision import _Shorter, in_precision
from autosearch.errors import ConfigError, Infeasible
from autosearch.graphs import onnx_bytes, onnx_run

CASES = [("test_vit", (1, 4)), ("test_efficientnet", (1, 2))]
SIZE = (32, 48)


def backbone(name: str, levels: tuple[int, ...]) -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone(name, levels, image_size=SIZE)


def noise(count: int = 2) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


class Tall(FeatureExtractor):
    """A linear layer whose output may pass the range of half precision."""

    feature_info = (FeatureInfo(0, 1, 1, "layer"),)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    class_token = 1

    def __init__(self, weight: float = 6e4) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.layer.weight, weight)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.layer(images)]


@pytest.mark.parametrize(("name", "levels"), CASES)
def test_maps_are_float32_and_near(name: str, levels: tuple[int, ...]) -> None:
    exact = backbone(name, levels)
    short = in_precision(exact, "bfloat16")
    assert short.input_size((33, 50)) == exact.input_size((33, 50))
    assert (short.mean, short.std, short.class_token) == (
        exact.mean, exact.std, exact.class_token,
    )  # fmt: skip
    with torch.inference_mode():
        images = noise()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            oracle = [found.float() for found in exact(images)]
        for found, expected, same, info in zip(
            short(images), exact(images), oracle, short.feature_info, strict=True
        ):
            assert found.dtype == torch.float32 and found.shape == expected.shape
            assert torch.equal(found, same) and not torch.equal(found, expected)
            assert (found - expected).abs().max() <= 0.03 * expected.abs().max()
            assert isinstance(short.get_submodule(info.module), nn.Module)


def test_class_tokens_are_float32() -> None:
    exact = backbone(*CASES[0])
    short = in_precision(exact, "bfloat16")
    with torch.inference_mode():
        maps, token = short.with_class_token(noise())
        expected = exact.with_class_token(noise())[1]
    assert token.dtype == torch.float32 == maps[0].dtype
    assert 0 < (token - expected).abs().max() <= 0.03 * expected.abs().max()


def test_float32_is_the_extractor_itself() -> None:
    extractor = Tall()
    assert in_precision(extractor, "float32") is extractor


def test_refusals() -> None:
    with pytest.raises(Infeasible, match=r"float16: CPUs .* bfloat16 or float32"):
        in_precision(Tall(), "float16")
    assert isinstance(in_precision(Tall(), "float16", "cuda"), FeatureExtractor)
    with pytest.raises(ConfigError, match="one of float32, bfloat16, float16"):
        in_precision(Tall(), "float64")  # type: ignore[arg-type]


def test_features_beyond_half_precision_are_refused() -> None:
    images = noise()
    with pytest.raises(Infeasible, match="65504"):
        _Shorter(Tall(), torch.float16)(images)
    (found,) = _Shorter(Tall(), torch.bfloat16)(images)
    assert found.isfinite().all()


class Brightness(nn.Module):
    """An anomaly map of features: their norms."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        super().__init__()
        self.features = PatchFeatures(extractor, [1] * len(extractor.feature_info))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images).square().sum(1)


def test_graphs_compute_in_float32() -> None:
    exact = Tall(0.3)
    graph = onnx_bytes(Brightness(in_precision(exact, "bfloat16")).eval(), SIZE)
    images = noise()
    with torch.inference_mode():
        expected = Brightness(exact)(images).numpy()
        short = Brightness(in_precision(exact, "bfloat16"))(images).numpy()
    assert np.abs(short - expected).max() > 1e-3 * expected.max()
    maps, _ = onnx_run(graph, threads=1)(images.numpy())
    assert np.abs(maps - expected).max() <= 1e-4 * expected.max()
