"""Synthetic images of Synth4Seg: what each source changes, shares and refuses."""

import importlib

import numpy as np
import pytest
import torch
from autosearch_runners.synth4seg import trivial_augment as trivial
from autosearch_runners.synth4seg.location import allowed_areas
from autosearch_runners.synth4seg.poisson import poisson_blend
from autosearch_runners.synth4seg.sources import (
    COMBINED,
    SOURCES,
    Batch,
    Sources,
    SourceSettings,
)
from autosearch_runners.synth4seg.trivial_augment import OPERATIONS, augment, trivial_augment
from hypothesis import given, settings, strategies as st

from autosearch.data.records import NORMAL, ImageSet
from autosearch.errors import ConfigError
from autosearch.synthesis import CutPasteSettings, Defect, paste

SIDE = 48
PASTING = ("photometric", "rotation", "shear", "scale", COMBINED)


def image_set(anomalous: int = 3, normal: int = 4, seed: int = 0) -> ImageSet:
    """Noise, anomalous images first, each with a defect of 6 x 9 pixels in a place of its own."""
    count = anomalous + normal
    pixels = np.random.default_rng(seed).random((count, 3, SIDE, SIDE), dtype=np.float32)
    masks = np.zeros((count, SIDE, SIDE), dtype=bool)
    for index in range(anomalous):
        masks[index, 8 + 5 * index : 14 + 5 * index, 20:29] = True
    names = tuple(f"{index}.png" for index in range(count))
    return ImageSet(pixels, masks, ("crack",) * anomalous + (NORMAL,) * normal, names, names)


def draw(train: ImageSet, seed: int = 0, location=None, **options) -> Batch:
    return Sources(train, SourceSettings(**options)).draw(np.random.default_rng(seed), location)


def origin(image: torch.Tensor, train: ImageSet) -> int:
    """Which training image an untouched one is."""
    (found,) = (i for i, own in enumerate(train.pixels) if np.array_equal(image.numpy(), own))
    return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.sampled_from(["all", "normal"]))
def test_pasting_changes_the_area_alone_and_keeps_old_labels(seed, pastes, targets) -> None:
    train = image_set()
    batch = draw(train, seed, names=PASTING, paste_per_image=pastes, targets=targets)
    assert batch.images.shape == (5, 2, 3, SIDE, SIDE)
    assert batch.targets.shape == batch.areas.shape == (5, 2, SIDE, SIDE)
    changed = (batch.images != batch.originals).any(dim=2)
    assert torch.equal(changed, batch.areas.bool())
    for row, image in enumerate(batch.originals):
        old = torch.from_numpy(train.masks[origin(image, train)])
        assert targets == "all" or not old.any()
        assert torch.equal(batch.targets[:, row].bool(), old | batch.areas[:, row].bool())
    assert (batch.areas.sum(dim=(2, 3)) >= 4).all()
    for tensor in (batch.images, batch.targets, batch.areas, batch.originals):
        assert tensor.dtype == torch.float32 and tensor.min() >= 0 and tensor.max() <= 1


def test_the_six_sources_are_the_default() -> None:
    train = image_set()
    batch = draw(train, batch=4)
    assert batch.images.shape[:2] == (6, 4)
    free = SOURCES.index("defect_free")
    assert len({origin(image, train) for image in batch.images[free]}) == 4
    assert all(not train.labels[origin(image, train)] for image in batch.images[free])
    assert not batch.targets[free].any()
    pasted = batch.areas.any(dim=(2, 3)).all(dim=1).tolist()
    assert pasted == [False, True, True, True, True, False]
    assert not batch.areas[0].any()


def test_all_sources_paste_the_same_defects_on_the_same_images() -> None:
    train = image_set(anomalous=3)
    train.pixels[:3] = np.float32([0.2, 0.5, 0.8])[:, None, None, None]  # a grey of each defect
    for seed in range(20):
        names = ("rotation", "shear", "scale")
        batch = draw(train, seed, names=names, batch=4, targets="normal")
        greys = [
            set(np.round(batch.images[j, i, :, batch.areas[j, i].bool()].numpy(), 4).flat)
            for i in range(4)
            for j in range(3)
        ]
        for row in range(4):
            assert greys[3 * row] == greys[3 * row + 1] == greys[3 * row + 2]
            assert len(greys[3 * row]) == 1


def test_each_source_varies_in_its_own_way() -> None:
    train = image_set(anomalous=1)
    train.pixels[0] = np.float32([0.7, 0.3, 0.2])[:, None, None]
    middle = np.zeros((4, SIDE, SIDE), dtype=bool)
    middle[:, 24, 24] = True
    seen = {}
    for name in PASTING:
        batch = draw(train, 1, lambda _: middle, names=(name,), batch=4, targets="normal")
        sizes = batch.areas[0].sum(dim=(1, 2))
        colours = [batch.images[0, i, :, batch.areas[0, i].bool()] for i in range(4)]
        same = [bool((c - c[:, :1]).abs().max() < 1e-6) for c in colours]
        assert all(same)
        kept = [torch.allclose(c[:, 0], torch.tensor([0.7, 0.3, 0.2]), atol=1e-5) for c in colours]
        seen[name] = sizes, any(kept), all(kept)
    assert (seen["photometric"][0] == 54).all() and not seen["photometric"][1]
    for name in ("rotation", "shear", "scale"):
        assert seen[name][2]
        assert len(seen[name][0].unique()) > 1
    assert seen["rotation"][0].float().mean() == pytest.approx(54, rel=0.1)
    assert seen["scale"][0].max() > 1.5 * seen["scale"][0].min()


def test_combined_applies_each_variation_by_chance() -> None:
    train, none, always = image_set(anomalous=1), [], []
    for chance, found in ((0.0, none), (1.0, always)):
        wanted = CutPasteSettings(probability=chance)
        batch = draw(train, names=(COMBINED,), batch=9, variation=wanted, targets="normal")
        found += batch.areas[0].sum(dim=(1, 2)).tolist()
    assert max(none) == 54
    assert len(set(always)) > 4


def test_centres_lie_where_the_location_says() -> None:
    train = image_set(anomalous=1)
    asked = []

    def location(images: torch.Tensor) -> np.ndarray:
        asked.append(images)
        allowed = np.zeros((len(images), SIDE, SIDE), dtype=bool)
        allowed[0, 12:15, 30:34] = allowed[1, 33:36, 12:16] = True
        return allowed

    for seed in range(10):
        batch = draw(train, seed, location, names=("photometric",), targets="normal")
        assert torch.equal(asked[-1], batch.originals)
        for area, (rows, columns) in zip(
            batch.areas[0],
            [(range(12, 15), range(30, 34)), (range(33, 36), range(12, 16))],
            strict=True,
        ):
            top, left = torch.argwhere(area).amin(dim=0).tolist()
            # A defect of 6 x 9 pixels has its middle 3 rows and 4 columns from its corner.
            assert top + 3 in rows and left + 4 in columns


def test_an_empty_location_map_stands_for_the_whole_image() -> None:
    everywhere = draw(image_set(), 3)
    nowhere = draw(
        image_set(), 3, lambda images: allowed_areas(torch.zeros(len(images), SIDE, SIDE), 0.6)
    )
    assert (nowhere.areas[1:5].sum(dim=(2, 3)) >= 4).all()
    assert nowhere.areas.shape == everywhere.areas.shape


def test_equal_generators_give_equal_batches() -> None:
    first, same, other = (draw(image_set(), seed) for seed in (5, 5, 6))
    for name in ("images", "targets", "areas", "originals"):
        assert torch.equal(getattr(first, name), getattr(same, name))
    assert not torch.equal(first.images, other.images)


def test_training_images_stay_as_they_are() -> None:
    train = image_set()
    before = train.pixels.copy(), train.masks.copy()
    for array in (train.pixels, train.masks):
        array.setflags(write=False)
    names = (*SOURCES, COMBINED)
    draw(train, names=names, batch=9).images.zero_()
    np.testing.assert_array_equal(train.pixels, before[0])
    np.testing.assert_array_equal(train.masks, before[1])


def test_one_defect_and_one_normal_image_are_enough() -> None:
    batch = draw(image_set(anomalous=1, normal=1), batch=3)
    assert batch.images.shape[:2] == (6, 3)
    assert (batch.areas[1:5].sum(dim=(2, 3)) >= 4).all()


def test_a_defect_larger_than_the_image_covers_it() -> None:
    train = image_set(anomalous=1)
    train.masks[0] = True
    wanted = CutPasteSettings(scale=(2, 2))
    batch = draw(train, 2, names=("scale",), variation=wanted)
    assert (batch.areas.mean(dim=(2, 3)) > 0.9).all()
    assert batch.images.isfinite().all()


def test_a_defect_scaled_to_nothing_is_pasted_as_it_was_cut() -> None:
    wanted = CutPasteSettings(scale=(0, 0))
    middle = np.zeros((2, SIDE, SIDE), dtype=bool)
    middle[:, 20, 20] = True
    batch = draw(image_set(), 0, lambda _: middle, names=("scale",), variation=wanted)
    assert (batch.areas.sum(dim=(2, 3)) == 54).all()


@pytest.mark.parametrize("train", [image_set(anomalous=0), image_set(anomalous=2)])
def test_without_a_defect_to_cut_the_share_must_be_raised(train) -> None:
    train.masks[:] = False
    with pytest.raises(ConfigError, match=r"dataset\.labelled\.train: .*a larger share"):
        Sources(train, SourceSettings())


def test_normal_images_are_asked_for_where_they_are_needed() -> None:
    train = image_set(normal=0)
    draw(train, names=PASTING)
    for options in ({"names": ("defect_free",)}, {"names": PASTING, "targets": "normal"}):
        with pytest.raises(ConfigError, match="train: 'no normal image'"):
            draw(train, **options)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("names", ()),
        ("names", ("scale", "scale")),
        ("names", ("zoom",)),
        ("batch", 0),
        ("paste_per_image", 0),
        ("targets", "anomalous"),
        ("blend", "soft"),
    ],
)
def test_settings_out_of_range_name_their_key(key, value) -> None:
    with pytest.raises(ConfigError) as raised:
        SourceSettings(**{key: value})
    assert raised.value.key == key


def test_poisson_needs_opencv(monkeypatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"space\.blend: 'poisson'.*autosearch\[poisson\]"):
        Sources(image_set(), SourceSettings(blend="poisson"))


@pytest.mark.parametrize("centre", [(24, 24), (0, 0), (47, 20)])
def test_poisson_takes_the_surroundings_brightness_and_keeps_edges(centre) -> None:
    pytest.importorskip("cv2")
    image = np.full((3, SIDE, SIDE), 0.6, np.float32)
    mask = np.hypot(*(np.mgrid[:17, :17] - 8)) <= 8
    flat = paste(
        image,
        np.zeros((SIDE, SIDE), bool),
        Defect(np.full((3, 17, 17), 0.2, np.float32), mask),
        centre,
    )
    # Without edges of its own, nothing of the defect remains.
    blended = poisson_blend(image, flat)
    np.testing.assert_allclose(blended.image, image, atol=3 / 255)
    np.testing.assert_array_equal(blended.area, flat.area)
    texture = np.full((3, 17, 17), 0.5, np.float32)
    texture[:, 6:11, 6:11] = 0.2
    seen = poisson_blend(image, paste(image, flat.mask, Defect(texture, mask), centre)).image
    assert (seen == image)[:, ~flat.area].all()
    if centre == (24, 24):
        np.testing.assert_allclose(seen[:, 24, 24], 0.3, atol=0.04)
        np.testing.assert_allclose(seen[:, 24, 18], 0.6, atol=0.04)


def test_poisson_is_an_option_of_every_pasting_source() -> None:
    pytest.importorskip("cv2")
    train = image_set()
    direct, blended = (draw(train, names=PASTING, blend=b) for b in ("direct", "poisson"))
    assert torch.equal(direct.areas, blended.areas)
    assert torch.equal(direct.targets, blended.targets)
    changed = (blended.images != blended.originals).any(dim=2)
    assert not (changed & ~blended.areas.bool()).any()
    assert not torch.equal(direct.images, blended.images)


def test_nothing_pasted_is_nothing_blended() -> None:
    pytest.importorskip("cv2")
    image = np.full((3, 9, 9), 0.6, np.float32)
    nothing = Defect(np.ones((3, 3, 3), np.float32), np.zeros((3, 3), bool))
    outside = paste(image, np.zeros((9, 9), bool), nothing, (4, 4))
    np.testing.assert_array_equal(poisson_blend(image, outside).image, image)


def sample(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image in 8 bits, and a mask that it shows in its red channel."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((20, 24), dtype=bool)
    mask[4:11, 6:19] = True
    image = rng.integers(256, size=(3, 20, 24)).astype(np.float32) / 255
    image[0] = mask
    return image, mask


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_keep_shape_and_range_at_both_ends(name) -> None:
    image, mask = sample()
    operation = OPERATIONS[name]
    for strength in (operation.low, operation.high):
        changed, moved = augment(image, mask, operation, strength)
        assert changed.shape == image.shape and changed.dtype == np.float32
        assert moved.shape == mask.shape and moved.dtype == bool
        assert changed.min() >= 0 and changed.max() <= 1 + 1e-6
        if operation.shape is None:
            np.testing.assert_array_equal(moved, mask)
        else:
            np.testing.assert_array_equal(moved, changed[0] >= 0.5)
            assert not np.array_equal(moved, mask)


def test_colours_in_closed_form() -> None:
    image, mask = sample()

    def changed(name: str, strength: float = 0.0) -> np.ndarray:
        return augment(image, mask, OPERATIONS[name], strength)[0] * 255

    levels = np.rint(image * 255)
    np.testing.assert_allclose(changed("identity"), levels, atol=1e-4)
    np.testing.assert_allclose(changed("brightness", 0.5), levels // 2, atol=1e-4)
    np.testing.assert_allclose(changed("posterise", 4.0), levels // 16 * 16, atol=1e-4)
    inverted = np.where(levels < 128, levels, 255 - levels)
    np.testing.assert_allclose(changed("solarise", 128.0), inverted, atol=1e-4)
    np.testing.assert_allclose(changed("solarise", 256.0), levels, atol=1e-4)
    grey = np.tensordot([0.299, 0.587, 0.114], levels, 1)
    np.testing.assert_allclose(changed("colour", 0.0), np.stack([grey] * 3), atol=1)
    spread = changed("autocontrast")
    assert spread.min() == 0 and spread.max() == pytest.approx(255)


def test_shapes_match_numpy_where_they_are_exact() -> None:
    image, mask = sample()
    wide = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode="symmetric")
    right, mask_right = augment(image, mask, OPERATIONS["shift_x"], 3 / 24)
    np.testing.assert_allclose(right, wide[:, 3:-3, :-6], atol=1e-5)
    np.testing.assert_array_equal(mask_right, wide[0, 3:-3, :-6] >= 0.5)
    down, _ = augment(image, mask, OPERATIONS["shift_y"], 2 / 20)
    np.testing.assert_allclose(down, wide[:, 1:-5, 3:-3], atol=1e-5)
    square = image[:, :, :20]
    turned, _ = augment(square, mask[:, :20], OPERATIONS["rotate"], 90)
    np.testing.assert_allclose(turned, np.rot90(square, 1, (1, 2)), atol=1e-5)
    for name, start, end in (("shear_x", (24, 20), (24, 21)), ("shear_y", (20, 24), (21, 24))):
        point = np.zeros((3, 41, 41), np.float32)
        point[:, *start] = 1
        sheared, _ = augment(point, point[0] > 0, OPERATIONS[name], 0.25)
        assert np.unravel_index(sheared[0].argmax(), (41, 41)) == end


def test_operations_and_strengths_are_drawn_evenly(monkeypatch) -> None:
    seen: dict[int, list[float]] = {id(o): [] for o in OPERATIONS.values()}

    def noted(image, mask, operation, strength):
        seen[id(operation)].append(strength)
        return image, mask

    monkeypatch.setattr(trivial, "augment", noted)
    rng = np.random.default_rng(0)
    for _ in range(4200):
        trivial_augment(*sample(), rng)
    for operation in OPERATIONS.values():
        strengths = np.array(seen[id(operation)])
        assert len(strengths) == pytest.approx(300, abs=70)
        reach = operation.high - operation.low
        shares = (strengths - operation.low) / (reach or 1)
        if reach:
            assert shares.min() < 0.05 and shares.max() > 0.95
            assert shares.mean() == pytest.approx(0.5, abs=0.07)


def test_ranges_are_those_of_table_two_where_both_have_them() -> None:
    ranges, brightness = CutPasteSettings(), OPERATIONS["brightness"]
    assert (brightness.low, brightness.high) == ranges.photometric
    assert OPERATIONS["rotate"].high == ranges.rotation
    assert OPERATIONS["shear_x"].high == OPERATIONS["shear_y"].high == ranges.shear
