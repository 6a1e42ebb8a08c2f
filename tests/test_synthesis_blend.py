"""Image synthesis as a whole: blending, settings, seeds, odd input."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from autosearch.data import read_image, resize
from autosearch.errors import ConfigError
from autosearch.synthesis import (
    FolderTextures,
    ProceduralTextures,
    SynthesisSettings,
    TextureSource,
    blend,
    pool_mask,
    synthesise,
)


class Plain:
    """A texture of one colour."""

    def __init__(self, value: int) -> None:
        self.value = value

    def picture(self, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
        return Image.new("RGB", size[::-1], (self.value,) * 3)


def test_blend_of_one_and_zero_gives_the_share() -> None:
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    ones, zeros = np.ones((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32)
    result = blend(ones, zeros, mask, 0.3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:, mask], 0.3, rtol=1e-6)
    assert (result[:, ~mask] == 1).all()


@settings(max_examples=30, deadline=None)
@given(
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 255), st.integers(0, 2**32)
)
def test_pixels_are_original_outside_and_a_clipped_share_inside(
    mean: float, one: float, other: float, value: int, seed: int
) -> None:
    clip = min(one, other), max(one, other)
    wanted = SynthesisSettings(blend_mean=mean, blend_clip=clip, n_texture_ops=0, cell=4)
    rng = np.random.default_rng(seed)
    image = rng.random((3, 40, 40), dtype=np.float32)
    made = synthesise(image, wanted, Plain(value), None, rng)
    assert clip[0] <= made.blend <= clip[1]
    assert (made.image[:, ~made.mask] == image[:, ~made.mask]).all()
    expected = made.blend * image + (1 - made.blend) * value / 255
    np.testing.assert_allclose(made.image[:, made.mask], expected[:, made.mask], atol=1e-6)
    np.testing.assert_array_equal(made.pooled_mask, pool_mask(made.mask, 4))
    assert made.mask.any() == (made.blend < 1)


def test_a_share_of_one_changes_nothing_and_labels_nothing() -> None:
    wanted = SynthesisSettings(blend_mean=1, blend_std=0, blend_clip=(0, 1))
    image = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    made = synthesise(image, wanted, Plain(0), None, np.random.default_rng(0))
    np.testing.assert_array_equal(made.image, image)
    assert made.image is not image
    assert made.blend == 1
    assert not made.mask.any()
    assert not made.pooled_mask.any()


def test_shares_are_clipped_not_drawn_again() -> None:
    wanted = SynthesisSettings(blend_std=1, n_texture_ops=0)
    rng = np.random.default_rng(0)
    image = np.ones((3, 16, 16), np.float32)
    shares = np.array([synthesise(image, wanted, Plain(0), None, rng).blend for _ in range(400)])
    # P(|x| > 0.3) of a standard normal is 0.764; one half of it lies at either bound.
    for bound in (0.2, 0.8):
        assert np.mean(shares == bound) == pytest.approx(0.382, abs=0.1)


def test_default_shares_are_normal_around_one_half() -> None:
    rng = np.random.default_rng(0)
    image = np.ones((3, 16, 16), np.float32)
    made = [synthesise(image, SynthesisSettings(), Plain(0), None, rng) for _ in range(400)]
    shares = np.array([one.blend for one in made])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.std() == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("size", [8, 200, 256, 300])
def test_any_size_and_equal_generators_give_equal_results(size: int) -> None:
    image = np.random.default_rng(0).random((3, size, size), dtype=np.float32)
    foreground = np.zeros((size, size), bool)
    foreground[size // 4 : -size // 4, size // 4 : -size // 4] = True
    made = [
        synthesise(
            image,
            SynthesisSettings(),
            ProceduralTextures(),
            foreground,
            np.random.default_rng(seed),
        )
        for seed in (4, 4, 5)
    ]
    np.testing.assert_array_equal(made[0].image, made[1].image)
    np.testing.assert_array_equal(made[0].mask, made[1].mask)
    assert made[0].blend == made[1].blend != made[2].blend
    assert made[0].image.shape == (3, size, size)
    assert made[0].image.dtype == np.float32
    assert not (made[0].mask & ~foreground).any()


def test_an_empty_foreground_is_told() -> None:
    image = np.ones((3, 64, 64), np.float32)
    nowhere = np.zeros((64, 64), bool)
    rng = np.random.default_rng(0)
    assert synthesise(image, SynthesisSettings(), Plain(0), nowhere, rng).fell_back
    assert not synthesise(image, SynthesisSettings(), Plain(0), ~nowhere, rng).fell_back


@pytest.mark.parametrize(
    ("shape", "foreground"), [((3, 8, 9), (8, 8)), ((3, 8, 8), (4, 4)), ((1, 8, 8), (8, 8))]
)
def test_images_that_do_not_fit_are_one_error(
    shape: tuple[int, ...], foreground: tuple[int, int]
) -> None:
    image, where = np.zeros(shape, np.float32), np.ones(foreground, bool)
    with pytest.raises(ConfigError, match="foreground"):
        synthesise(image, SynthesisSettings(), Plain(0), where, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("perlin_max_exp", -1),
        ("perlin_max_exp", 2.5),
        ("perlin_threshold", 1.0),
        ("perlin_threshold", float("nan")),
        ("n_texture_ops", 10),
        ("blend_mean", -0.1),
        ("blend_std", float("nan")),
        ("blend_clip", (0.8, 0.2)),
        ("blend_clip", (0.2, 1.1)),
        ("cell", 0),
    ],
)
def test_settings_out_of_range_name_their_key(key: str, value: object) -> None:
    with pytest.raises(ConfigError) as raised:
        SynthesisSettings(**{key: value})
    assert raised.value.key == key


def test_real_images_change_visibly_below_the_mask(shared_data: Path) -> None:
    folder = shared_data / "magnetic_tile" / "magnetic_tile_mini" / "train" / "good"
    image = resize(read_image(sorted(folder.iterdir())[0]), (128, 128))
    source: TextureSource = FolderTextures(shared_data / "dtd_subset")
    rng = np.random.default_rng(0)
    made = [synthesise(image, SynthesisSettings(), source, None, rng) for _ in range(20)]
    change = [np.abs(one.image - image).max(axis=0)[one.mask].mean() for one in made]
    assert np.median(change) > 0.05
    assert 0.005 < np.mean([one.mask.mean() for one in made]) < 0.2
