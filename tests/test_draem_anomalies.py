"""How DRAEM's training images are made: operations, rotation, masks, shares."""

from dataclasses import replace

import numpy as np
import pytest
from autosearch_runners.draem.anomalies import Anomalies, AnomalySettings, rotated
from autosearch_runners.draem.operations import MIAD, ORIGINAL
from PIL import Image

from autosearch.data import ImageSet
from autosearch.synthesis import open_textures
from autosearch.synthesis.operations import vary
from autosearch.synthesis.perlin import draw_mask, perlin_mask
from autosearch.testing.images import image_set

ALL = np.arange(40)


def draws(name: str, picture: Image.Image, count: int = 60) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack([np.asarray(ORIGINAL[name](picture, rng)) for _ in range(count)]).astype(int)


def noise(side: int = 24) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def test_there_are_ten_operations_and_seven_of_them_in_the_paper() -> None:
    assert len(ORIGINAL) == 10 and ORIGINAL.items() >= MIAD.items()
    assert set(MIAD) == {
        "posterise", "sharpness", "solarise", "equalise", "brightness", "colour", "autocontrast",
    }  # fmt: skip


@pytest.mark.parametrize("name", ORIGINAL)
def test_an_operation_changes_a_picture_and_keeps_its_size(name: str) -> None:
    picture = noise()
    found = draws(name, picture)
    assert found.shape[1:] == (24, 24, 3)
    assert (found != np.asarray(picture)).any()


def test_operations_do_what_their_names_say() -> None:
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    assert np.unique(draws("invert", grey)).tolist() == [155]
    # Bits that are kept of 100 = 0b01100100, one to eight.
    assert np.unique(draws("posterise", grey)).tolist() == [0, 64, 96, 100]
    assert np.unique(draws("solarise", grey)).tolist() == [100, 155]
    value = draws("brightness", grey, 300)
    assert (value.min(), value.max()) == (pytest.approx(52, abs=6), pytest.approx(148, abs=6))
    gamma = draws("gamma", grey, 300)
    # 100 / 255 to the power of 2 and of a half.
    assert (gamma.min(), gamma.max()) == (pytest.approx(39, abs=2), pytest.approx(160, abs=2))
    assert (gamma[..., 0] != gamma[..., 1]).any(), "every channel has a power of its own"
    assert np.unique(draws("sharpness", grey)).tolist() == [100]


def test_colour_turns_hue_and_saturation_and_keeps_value() -> None:
    red = Image.new("RGB", (2, 2), (200, 40, 40))
    found = draws("colour", red)
    assert np.unique(found.max(axis=-1)).tolist() == [200]
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 20


def test_autocontrast_stretches_every_channel() -> None:
    ramp = np.linspace(100, 150, 64).astype(np.uint8)
    picture = Image.fromarray(np.repeat(ramp.reshape(8, 8, 1), 3, axis=2))
    found = draws("autocontrast", picture)
    assert found.min() == 0 and found.max() == 255


def test_operations_are_drawn_from_the_list_that_is_named() -> None:
    """Seven of seven: each once."""
    seen: list[str] = []

    def noting(name: str):
        return lambda picture, rng: seen.append(name) or picture

    known = {name: noting(name) for name in MIAD}
    vary(noise(), 3, np.random.default_rng(0), known)
    assert len(seen) == len(set(seen)) == 3
    seen.clear()
    vary(noise(), 7, np.random.default_rng(0), known)
    assert set(seen) == set(MIAD) and len(seen) == 7


def test_a_mask_of_one_noise_is_the_first_of_two() -> None:
    """Two noises leave a third of the masks as the first one alone."""
    shape = (32, 32)
    alone = [perlin_mask(shape, 3, 0.3, np.random.default_rng(s), mixed=False) for s in range(30)]
    mixed = [perlin_mask(shape, 3, 0.3, np.random.default_rng(s)) for s in range(30)]
    same = sum(np.array_equal(one, other) for one, other in zip(alone, mixed, strict=True))
    assert 4 <= same <= 18
    where = np.zeros(shape, dtype=bool)
    where[:16] = True
    found = draw_mask(where, 3, 0.3, 1, np.random.default_rng(0), mixed=False).mask
    assert found.any() and not found[16:].any()


def test_quarter_turns_are_exact() -> None:
    image = np.random.default_rng(0).random((3, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(rotated(image, 90), np.rot90(image, 1, (1, 2)), atol=1e-4)
    wide = image[:, :10]
    np.testing.assert_allclose(rotated(wide, 180), wide[:, ::-1, ::-1], atol=1e-4)


def test_a_rectangle_turns_without_being_stretched() -> None:
    """A square in the middle keeps its area and stands on a corner."""
    image = np.zeros((1, 48, 96), dtype=np.float32)
    image[:, 16:32, 40:56] = 1
    found = rotated(image, 45)
    assert found.sum() == pytest.approx(256, rel=0.02)
    # Half a diagonal of 16 pixels is 11.3; further to the sides lie mirror images.
    rows = np.flatnonzero(found[0, :, 28:68].max(axis=1) > 0.5)
    assert (rows[0], rows[-1]) == (pytest.approx(24 - 11.3, abs=1.5), pytest.approx(35, abs=1.5))
    assert rotated(np.ones((1, 20, 30), dtype=np.float32), 30).min() == pytest.approx(1)


def made(train: ImageSet, seed: int = 0, **settings: object):
    given = AnomalySettings(**settings)  # type: ignore[arg-type]
    anomalies = Anomalies(train, given, open_textures("procedural", train.pixels))
    return anomalies.batch(ALL, np.random.default_rng(seed))


TRAIN = image_set(32, 40, 0, seed=0)


def test_half_of_the_images_have_an_anomaly_under_the_mask() -> None:
    batch = made(TRAIN, rotation_degrees=0.0)
    marked = batch.masks.flatten(1).any(1)
    assert 12 <= marked.sum() <= 28
    np.testing.assert_array_equal(batch.normal.numpy(), TRAIN.pixels)
    changed = (batch.seen != batch.normal).any(1)
    assert not (changed & ~batch.masks).any()
    assert changed[marked].flatten(1).any(1).all() and batch.counted is None


def test_the_original_shows_through_by_at_most_the_given_share() -> None:
    """Nothing of it at 0: then texture alone, in steps of 1/255."""
    batch = made(TRAIN, blend_max=0.0, rotation_degrees=0.0)
    under = batch.seen.permute(0, 2, 3, 1)[batch.masks].numpy() * 255
    np.testing.assert_allclose(under, np.rint(under), atol=1e-3)
    mixed = made(TRAIN, blend_max=0.8, rotation_degrees=0.0)
    differences = [
        (made.seen - made.normal).abs().permute(0, 2, 3, 1)[made.masks].mean()
        for made in (mixed, batch)
    ]
    assert 0.4 < differences[0] / differences[1] < 0.8, "0.6 of the texture on average"


def test_three_of_ten_images_are_turned() -> None:
    batch = made(TRAIN, rotation_degrees=90.0)
    turned = (batch.normal.numpy() != TRAIN.pixels).any((1, 2, 3))
    assert 5 <= turned.sum() <= 20


def test_anomalies_lie_where_pixels_count_and_turn_with_them() -> None:
    valid = np.zeros((40, 32, 32), dtype=bool)
    valid[:, 8:24, 4:16] = True
    batch = made(replace(TRAIN, valid=valid), rotation_degrees=180.0)
    assert batch.counted is not None
    counted = batch.counted.numpy()
    turned = (counted != valid).any((1, 2))
    assert 5 <= turned.sum() <= 20
    assert (np.abs(counted.sum((1, 2)) - 192) < 40).all()
    assert batch.masks.any() and not (batch.masks.numpy() & ~counted).any()
