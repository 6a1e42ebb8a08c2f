"""What runners share that rebuild images: SSIM, U-Nets, sides that strides do not divide."""

import numpy as np
import pytest
import torch
from autosearch_runners.sides import Sides
from autosearch_runners.ssim import SMALLEST, WINDOW, dissimilarity
from autosearch_runners.unets import UNet
from kornia.metrics import ssim
from skimage.metrics import structural_similarity
from unet_parts import noise, unet_by_hand

from autosearch.backbones import profile
from autosearch.data import Size
from autosearch.errors import Infeasible


def test_images_are_not_unlike_themselves() -> None:
    images = noise(2, 3, 16, 20)
    torch.testing.assert_close(dissimilarity(images, images), torch.zeros(2, 16, 20))


def test_plain_images_differ_in_luminance_alone() -> None:
    """Without variance SSIM is (2 a b + c) / (a^2 + b^2 + c), c = 0.01^2."""
    dark, light = torch.full((1, 3, 12, 12), 0.2), torch.full((1, 3, 12, 12), 0.7)
    expected = 1 - (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)
    torch.testing.assert_close(
        dissimilarity(dark, light), torch.full((1, 12, 12), expected), rtol=1e-4, atol=0
    )


def test_dissimilarity_is_that_of_scikit_image() -> None:
    """A window inside the image; at the border the two mirror in different ways."""
    first, second = noise(1, 3, 24, 30), noise(1, 3, 24, 30, seed=1)
    _, full = structural_similarity(
        first[0].numpy(),
        second[0].numpy(),
        channel_axis=0,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    reach = WINDOW // 2
    inside = slice(reach, -reach)
    found = dissimilarity(first, second)[0].numpy()
    expected = 1 - full.mean(axis=0)
    np.testing.assert_allclose(found[inside, inside], expected[inside, inside], atol=1e-4)


def test_dissimilarity_is_that_of_kornia_at_the_border_too() -> None:
    first, second = noise(2, 3, 14, 20), noise(2, 3, 14, 20, seed=1)
    for other in (second, 0.9 * first + 0.1 * second):
        expected = 1 - ssim(first.double(), other.double(), WINDOW).mean(dim=1)
        torch.testing.assert_close(
            dissimilarity(first, other).double(), expected, rtol=1e-4, atol=1e-6
        )


def test_small_differences_of_bright_plain_images_are_not_lost() -> None:
    """In single precision the usual way of writing SSIM is a quarter off here."""
    first = 0.93 + 0.002 * noise(1, 3, 24, 24)
    second = 0.99 * first
    second[:, :, 8:12, 8:12] -= 0.003
    expected = 1 - ssim(first.double(), second.double(), WINDOW).mean(dim=1)
    assert expected.max() < 5e-3
    torch.testing.assert_close(
        dissimilarity(first, second).double(), expected, rtol=1e-3, atol=1e-8
    )


def test_dissimilarity_has_gradients_and_a_least_side() -> None:
    images = noise(1, 3, SMALLEST, SMALLEST).requires_grad_()
    dissimilarity(images, noise(1, 3, SMALLEST, SMALLEST, seed=1)).mean().backward()
    assert images.grad is not None and images.grad.abs().min() > 0
    with pytest.raises(RuntimeError):
        dissimilarity(images[..., 1:], images[..., 1:])


@pytest.mark.parametrize("skips", [True, False])
def test_a_unet_costs_what_its_layers_do(skips: bool) -> None:
    widths = [4, 6, 8, 8]
    found = profile(UNet(5, 2, widths, skips), (1, 5, 16, 24))
    assert (found.parameters, found.flops) == unet_by_hand(5, 2, widths, skips, 16 * 24)
    assert not found.uncounted


def test_the_nets_of_draem_have_97_million_numbers() -> None:
    """As published, with widths of 128 and 64."""
    repairing = [128 * n for n in (1, 2, 4, 8, 8)]
    seeing = [64 * n for n in (1, 2, 4, 8, 8, 8)]
    total = (
        unet_by_hand(3, 3, repairing, False, 1024)[0] + unet_by_hand(6, 2, seeing, True, 1024)[0]
    )
    assert round(total / 1e6, 1) == 97.4


@pytest.mark.parametrize("skips", [True, False])
def test_only_connections_let_a_detail_pass(skips: bool) -> None:
    """With what comes from below set to 0, images are told apart by connections alone."""
    torch.manual_seed(0)
    network = UNet(3, 1, [4, 4, 4], skips).eval()
    for parameter in network.up.parameters():
        parameter.data.zero_()
    first, second = (network(noise(1, 3, 16, 16, seed=seed)) for seed in (0, 1))
    assert torch.equal(first, second) != skips


@pytest.mark.parametrize(("size", "padded"), [((33, 64), (64, 64)), ((48, 40), (64, 64))])
def test_images_are_mirrored_up_to_the_stride(size: Size, padded: Size) -> None:
    images, sides = noise(2, 3, *size), Sides(size, 32)
    found = sides.pad(images)
    missing = [(0, more - side) for more, side in zip(padded, size, strict=True)]
    expected = np.pad(images.numpy(), [(0, 0), (0, 0), *missing], mode="reflect")
    np.testing.assert_array_equal(found.numpy(), expected)
    assert torch.equal(sides.cut(found), images) and sides.grid == (2, 2)


def test_sides_that_fit_are_left_alone() -> None:
    images = noise(1, 3, 32, 64)
    assert Sides((32, 64), 32).pad(images) is images


def test_images_may_be_too_small() -> None:
    """It is said at once and with the size."""
    with pytest.raises(Infeasible, match=r"16 x 64 pixels are too small .* 17 a side"):
        Sides((16, 64), 32)
    Sides((17, 64), 32)
    with pytest.raises(Infeasible, match="1 cell of 32 x 32 pixels, and training needs 2"):
        Sides((32, 32), 32, fewest=2)
