"""Every timm backbone holds what a feature extractor must, and is cut from the whole model."""

import pytest
import timm
import torch
from torch import Tensor, nn

from autosearch.backbones.features import PatchFeatures, fold_batch_norm, optimise_for_inference
from autosearch.backbones.timm_backbone import TimmBackbone, timm_feature_info
from autosearch.errors import ConfigError, WeightsError
from autosearch.testing import BackboneSuite

MODELS = ["efficientnet_lite0", "resnet18", "mobilenetv3_large_100", "wide_resnet50_2"]
SIDE = 64


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=MODELS)
def backbone(request: pytest.FixtureRequest) -> TimmBackbone:
    return TimmBackbone(request.param, (1, 2))


class TestTimmBackbones(BackboneSuite):
    @pytest.fixture
    def extractor(self, backbone: TimmBackbone) -> TimmBackbone:
        return backbone


def test_folding_leaves_no_norm(backbone: TimmBackbone):
    for make in (fold_batch_norm, optimise_for_inference):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in make(backbone).modules())


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
