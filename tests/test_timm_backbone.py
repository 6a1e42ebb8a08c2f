"""Every timm backbone keeps the contract of a feature extractor."""

import pytest
import timm
import torch
from torch import Tensor, nn

from autosearch.backbones.features import PatchFeatures, fold_batch_norm, optimise_for_inference
from autosearch.backbones.timm_backbone import TimmBackbone, timm_feature_info
from autosearch.errors import ConfigError, WeightsError

MODELS = ["efficientnet_lite0", "resnet18", "mobilenetv3_large_100", "wide_resnet50_2"]
SIDE = 64


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=MODELS)
def backbone(request: pytest.FixtureRequest) -> TimmBackbone:
    return TimmBackbone(request.param, (1, 2))


def test_maps_are_as_described(backbone: TimmBackbone, images: Tensor):
    maps = backbone(images)
    assert len(maps) == len(backbone.feature_info) == 2
    for features, info in zip(maps, backbone.feature_info, strict=True):
        side = SIDE // info.reduction
        assert features.shape == (2, info.channels, side, side)


def test_named_modules_return_the_maps(backbone: TimmBackbone, images: Tensor):
    outputs: list[Tensor] = []
    handles = [
        backbone.get_submodule(info.module).register_forward_hook(
            lambda module, args, output: outputs.append(output)
        )
        for info in backbone.feature_info
    ]
    maps = backbone(images)
    for handle in handles:
        handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(maps, outputs, strict=True))


def test_nothing_is_kept_nor_run_after_the_last_level(backbone: TimmBackbone, images: Tensor):
    began: list[nn.Module] = []
    handles = [
        module.register_forward_pre_hook(lambda module, args: began.append(module))
        for module in backbone.modules()
    ]
    backbone(images)
    for handle in handles:
        handle.remove()
    assert {m for m in backbone.modules() if list(m.parameters(recurse=False))} <= set(began)
    last = set(backbone.get_submodule(backbone.feature_info[-1].module).modules())
    assert began[-1] in last


def test_is_frozen_and_in_evaluation_mode(backbone: TimmBackbone):
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not any(m.training for m in backbone.modules())


def test_folding_keeps_the_maps(backbone: TimmBackbone, images: Tensor):
    generator = torch.Generator().manual_seed(1)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    expected = backbone(images)
    for make in (fold_batch_norm, optimise_for_inference):
        folded = make(backbone)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
        for found, wanted in zip(folded(images), expected, strict=True):
            assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_equals_the_whole_model(images: Tensor):
    whole = timm.create_model("resnet18").eval()
    backbone = TimmBackbone("resnet18", (0, 3), whole.state_dict())
    with torch.no_grad():
        everything = whole.forward_intermediates(images, intermediates_only=True)
    for level, features in zip((0, 3), backbone(images), strict=True):
        assert torch.equal(features, everything[level])


def test_patch_features_of_two_levels(images: Tensor):
    module = PatchFeatures(TimmBackbone("resnet18", (2, 3)), (3, 3))
    assert module.channels == 128 + 256
    assert module(images.sigmoid()).shape == (2, 384, SIDE // 8, SIDE // 8)


def test_normalisation_is_that_of_the_weights():
    assert TimmBackbone("tf_efficientnet_lite0", (0,)).mean == (0.5, 0.5, 0.5)
    assert TimmBackbone("resnet18", (0,)).std == (0.229, 0.224, 0.225)


def test_levels_are_listed_without_building_weights():
    info = timm_feature_info("wide_resnet50_2")
    assert [(f.block, f.channels, f.reduction) for f in info] == [
        (0, 64, 2),
        (1, 256, 4),
        (2, 512, 8),
        (3, 1024, 16),
        (4, 2048, 32),
    ]


@pytest.mark.parametrize("levels", [(), (5,), (-1,), (2, 1), (1, 1)])
def test_levels_must_exist_and_rise(levels: tuple[int, ...]):
    with pytest.raises(ConfigError, match=r"levels: .* 0 to 4"):
        TimmBackbone("resnet18", levels)


def test_unknown_model_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        timm_feature_info("resnet-18")


def test_foreign_tensors_are_refused():
    with pytest.raises(WeightsError, match="not the weights of resnet18"):
        TimmBackbone("resnet18", (1,), {"conv1.weight": torch.zeros(1)})
