"""Transformers of timm give their tokens as maps, at sizes that are not their own."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from autosearch.backbones import (
    PatchFeatures,
    TimmBackbone,
    optimise_for_inference,
    recalibrate,
    resize,
    timm_feature_info,
    timm_has_final_norm,
)
from autosearch.errors import ConfigError, Infeasible, WeightsError
from autosearch.graphs import onnx_bytes, onnx_run
from autosearch.testing import BackboneSuite

VIT = "vit_tiny_patch16_224"
# Embeddings of positions, those and registers, rotary ones and registers.
PLAIN = [VIT, "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"]
LEVELS = (1, 3)


@cache
def whole(name: str) -> Any:
    """A whole model for images of any size, with tokens and places that matter."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, dynamic_img_size=True).eval()
        for key, value in model.named_parameters():
            if "token" in key or "pos_embed" in key:
                nn.init.normal_(value, std=0.5)
    return model


@cache
def state(name: str) -> dict[str, Tensor]:
    return dict(whole(name).state_dict())


def backbone(name: str, size: tuple[int, int] | None = None, **given: bool) -> TimmBackbone:
    return TimmBackbone(name, LEVELS, state(name), image_size=size, **given)


def noise(*size: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(1))


class TestTokens(BackboneSuite):
    sides = (64, 32, (48, 80))

    @pytest.fixture
    def extractor(self) -> TimmBackbone:
        return backbone(VIT)

    def test_every_operation_is_counted(self, extractor: TimmBackbone) -> None:
        """All but layer norms, for which there is no rule."""
        with pytest.raises(AssertionError, match="LayerNorm"):
            super().test_every_operation_is_counted(extractor)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("name", PLAIN)
def test_tokens_are_those_of_timm(name: str, norm: bool) -> None:
    """Of the whole model at that size, made for any size or for one."""
    patch = timm_feature_info(name)[0].reduction
    size = (2 * patch, 3 * patch)
    images = noise(*size)
    with torch.no_grad():
        expected = whole(name).forward_intermediates(
            images, indices=list(LEVELS), norm=norm, intermediates_only=True
        )
    for made_for in (None, size):
        found = backbone(name, made_for, final_norm=norm)(images)
        assert [m.shape for m in found] == [(2, whole(name).embed_dim, 2, 3)] * 2
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_the_class_token_comes_with_the_maps(norm: bool) -> None:
    """That of the last extracted block, not a register."""
    for name in PLAIN:
        patch = timm_feature_info(name)[0].reduction
        images, extractor = noise(2 * patch, patch), backbone(name, final_norm=norm)
        with torch.no_grad():
            _, expected = whole(name).forward_intermediates(
                images, [3], return_prefix_tokens=True, norm=norm, intermediates_only=True
            )[0]
        maps, token = extractor.with_class_token(images)
        assert token.shape == (2, extractor.class_token)
        torch.testing.assert_close(token, expected[:, 0], rtol=1e-5, atol=1e-5)
        assert all(torch.equal(m, n) for m, n in zip(maps, extractor(images), strict=True))
    assert TimmBackbone("resnet18", (1,)).class_token is None


def test_blocks_of_any_depth_are_levels() -> None:
    info = timm_feature_info(VIT)
    assert [(f.block, f.channels, f.reduction) for f in info] == [(n, 192, 16) for n in range(12)]
    assert len(TimmBackbone(VIT, (11,), state(VIT)).model.blocks) == 12
    assert len(backbone(VIT).model.blocks) == 4
    with pytest.raises(ConfigError, match=r"levels: .* 0 to 11"):
        TimmBackbone(VIT, (12,), state(VIT))


def test_final_norm_is_kept_only_where_it_is_asked_for() -> None:
    assert isinstance(backbone(VIT).model.norm, nn.Identity)
    assert isinstance(backbone(VIT, final_norm=True).model.norm, nn.LayerNorm)
    assert [timm_has_final_norm(name) for name in (VIT, "resnet18")] == [True, False]
    # Stages have different widths: their last norm fits the last alone.
    assert not timm_has_final_norm("swin_tiny_patch4_window7_224")
    assert TimmBackbone("resnet18", (1,), final_norm=True)._norm == {}


@pytest.mark.parametrize(
    ("given", "seen"),
    [((50, 64), (48, 64)), ((40, 39), (48, 32)), ((5, 16), (16, 16)), ((224, 97), (224, 96))],
)
def test_sides_are_brought_to_the_nearest_whole_patches(
    given: tuple[int, int], seen: tuple[int, int]
) -> None:
    images = noise(*given)
    for made_for in (None, given):
        extractor = backbone(VIT, made_for)
        assert extractor.input_size(given) == seen
        for one, other in zip(extractor(images), extractor(resize(images, seen)), strict=True):
            assert torch.equal(one, other) and one.shape[-2:] == (seen[0] // 16, seen[1] // 16)


def test_images_are_resized_once() -> None:
    features = PatchFeatures(backbone(VIT, (40, 56)), (1, 1), image_size=(40, 56))
    assert features.image_size == (48, 64)
    assert features(noise(80, 112)).shape == (2, 2 * 192, 3, 4)
    assert PatchFeatures(TimmBackbone("resnet18", (1,)), (1,), "finest", (40, 56)).image_size == (
        40,
        56,
    )


def test_faster_form_and_recalibration_leave_it_as_it_is() -> None:
    extractor, images = backbone(VIT, (48, 32)), noise(48, 32)
    expected = extractor(images)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (extractor.mean, extractor.std))
    for made in (optimise_for_inference(extractor), recalibrate(extractor, images * std + mean)):
        for one, other in zip(made(images), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_windows_take_sizes_that_are_not_their_own() -> None:
    name = "swin_tiny_patch4_window7_224"
    extractor = TimmBackbone(name, (0, 1), state(name), image_size=(41, 56))
    images = noise(40, 56)
    with torch.no_grad():
        expected = whole(name).forward_intermediates(
            images, indices=[0, 1], intermediates_only=True
        )
    for one, other in zip(extractor(images), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert extractor(noise(41, 56))[0].shape[-2:] == (10, 14)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_graphs_hold_embeddings_for_the_size_as_constants(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And answer as the network, for one image and for three."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    extractor = TimmBackbone(name, (0,), state(name), final_norm=True, image_size=(40, 48))
    module = Mean(PatchFeatures(extractor, (1,))).eval()
    content = onnx_bytes(module, (32, 48))
    assert not [one for one in caplog.records if one.levelname == "WARNING"]
    run = onnx_run(content)
    for count in (1, 3):
        images = noise(32, 48, count=count)
        with torch.no_grad():
            expected = module(images).numpy()
        found = np.asarray(run(images.numpy())[0])
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    resized = [n for n in onnx.load_from_string(content).graph.node if n.op_type == "Resize"]
    assert len(resized) == 1  # The images; they have 32 rows, and the network asks for 48.


class Mean(nn.Module):
    """One map of all channels."""

    def __init__(self, features: PatchFeatures) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        mean: Tensor = self.features(images).square().mean(1)
        return mean


def test_what_takes_its_own_size_alone_is_infeasible_at_others() -> None:
    """One line, with the model's reason."""
    with pytest.raises(Infeasible, match=r"^levit_128s takes no images of 64 x 64: [^\n]+$"):
        TimmBackbone("levit_128s", (1,), image_size=(64, 64))
    with pytest.raises(WeightsError, match="not the weights of vit_tiny"):
        TimmBackbone(VIT, (1,), {"cls_token": torch.zeros(1)}, image_size=(32, 32))
