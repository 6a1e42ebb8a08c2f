"""What every backbone must hold: maps as described, and nothing behind the last of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from autosearch.backbones import FeatureExtractor, optimise_for_inference, profile
from autosearch.data import Size


class BackboneSuite:
    """Checks of a `FeatureExtractor`.

    Give a fixture ``extractor``, an instance on the CPU; it is left as it was. With more than one
    entry in its ``feature_info``, order is checked as well.

    Attributes:
        sides: Of square images that it accepts, or heights and widths; the first serves the checks
            that need only one.
    """

    sides: ClassVar[Sequence[int | Size]] = (64, 50, (64, 96))

    @pytest.fixture
    def images(self) -> Tensor:
        """Normalised images."""
        return _noise(2, self.sides[0])

    def test_feature_info_describes_the_maps(self, extractor: FeatureExtractor) -> None:
        """Blocks rise, and every map has the channels and the sides that are promised."""
        info = extractor.feature_info
        blocks = [feature.block for feature in info]
        assert blocks and blocks == sorted(set(blocks))
        for side in self.sides:
            maps = extractor(_noise(2, side))
            assert len(maps) == len(info)
            for found, feature in zip(maps, info, strict=True):
                reduced = (math.ceil(length / feature.reduction) for length in _size(side))
                assert found.shape == (2, feature.channels, *reduced), feature
                assert found.dtype == torch.float32 and found.isfinite().all()

    def test_named_modules_return_the_maps(
        self, extractor: FeatureExtractor, images: Tensor
    ) -> None:
        """Each map is what the submodule gives that ``feature_info`` names, which runs once."""
        given: list[Tensor] = []
        handles = [
            extractor.get_submodule(feature.module).register_forward_hook(
                lambda module, args, output: given.append(output)
            )
            for feature in extractor.feature_info
        ]
        maps = extractor(images)
        for handle in handles:
            handle.remove()
        for found, expected in zip(maps, given, strict=True):
            assert torch.equal(found, expected)

    def test_nothing_is_kept_nor_run_behind_the_last_map(
        self, extractor: FeatureExtractor, images: Tensor
    ) -> None:
        """Work and weights that no map needs would count as cost."""
        began: list[nn.Module] = []
        handles = [
            module.register_forward_pre_hook(lambda module, args: began.append(module))
            for module in extractor.modules()
        ]
        extractor(images)
        for handle in handles:
            handle.remove()
        last = extractor.feature_info[-1].module
        assert began[-1] in set(extractor.get_submodule(last).modules())
        unused = {
            name
            for name, module in extractor.named_modules()
            if module not in began and next(module.parameters(recurse=False), None) is not None
        }
        # Weights may also be looked up by whoever holds them, such as embeddings of positions.
        assert not unused or not unused & _without_effect(extractor, images)

    def test_is_frozen_and_in_evaluation_mode(
        self, extractor: FeatureExtractor, images: Tensor
    ) -> None:
        """Two passes give the same, and the first leaves no trace."""
        assert not any(parameter.requires_grad for parameter in extractor.parameters())
        assert not any(module.training for module in extractor.modules())
        before = copy.deepcopy(extractor.state_dict())
        for first, second in zip(extractor(images), extractor(images), strict=True):
            assert torch.equal(first, second)
        after = extractor.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())

    def test_one_image_is_seen_as_in_a_batch(
        self, extractor: FeatureExtractor, images: Tensor
    ) -> None:
        """Images know nothing of each other."""
        for alone, together in zip(extractor(images[:1]), extractor(images), strict=True):
            _assert_close(alone, together[:1])

    def test_normalisation_is_stated(self, extractor: FeatureExtractor) -> None:
        """Mean and deviation are one number for each of three channels."""
        assert len(extractor.mean) == len(extractor.std) == 3
        assert all(math.isfinite(value) for value in extractor.mean)
        assert all(math.isfinite(value) and value > 0 for value in extractor.std)

    def test_every_operation_is_counted(self, extractor: FeatureExtractor) -> None:
        """Layers are of types that `profile` has a rule for, or `layers_alone` is not claimed."""
        shape = (1, 3, *_size(self.sides[0]))
        found = profile(extractor, shape)
        assert found.uncounted == ()
        assert found.flops >= 2 * found.macs > 0 and found.parameters > 0
        assert not extractor.layers_alone or profile(extractor, shape, products=False) == found

    def test_faster_form_gives_the_same_maps(
        self, extractor: FeatureExtractor, images: Tensor
    ) -> None:
        """Batch norms can be folded, whatever their statistics, and the original stays."""
        extractor, draw = copy.deepcopy(extractor), torch.Generator().manual_seed(1)
        for norm in extractor.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    if tensor is not None:
                        tensor.data.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
        expected = extractor(images)
        fast = optimise_for_inference(extractor, min(_size(self.sides[0])))
        assert fast.feature_info == extractor.feature_info
        for found, before, after in zip(fast(images), expected, extractor(images), strict=True):
            assert (found - before).abs().max() <= 1e-4 * before.abs().max()
            assert torch.equal(before, after)


def _without_effect(extractor: FeatureExtractor, images: Tensor) -> set[str]:
    """Names of modules with weights of their own that no map depends on."""
    extractor = copy.deepcopy(extractor).requires_grad_(True)
    torch.stack([found.sum() for found in extractor(images)]).sum().backward()  # type: ignore[no-untyped-call]
    return {
        name
        for name, module in extractor.named_modules()
        if any(weight.grad is None for weight in module.parameters(recurse=False))
    }


def _noise(count: int, side: int | Size) -> Tensor:
    return torch.randn(count, 3, *_size(side), generator=torch.Generator().manual_seed(0))


def _size(side: int | Size) -> Size:
    return (side, side) if isinstance(side, int) else side


def _assert_close(found: Tensor, expected: Tensor) -> None:
    nothing = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=nothing)
