"""Pixels that do not count: neither made anomalous, nor learnt from, nor judged by."""

from dataclasses import astuple, replace

import bilevel_parts
import numpy as np
import pytest
import torch
from autosearch_runners.glass.detector import _with_cells
from autosearch_runners.glass.hypothesis import average_image
from autosearch_runners.glass.networks import Discriminator, make_adaptor
from autosearch_runners.glass.training import Losses, NormalVectors, Trainer, TrainingSettings
from autosearch_runners.synth4seg.curve import Epoch
from autosearch_runners.synth4seg.losses import segmentation_loss
from autosearch_runners.synth4seg.runner import Synth4SegRunner
from autosearch_runners.synth4seg.sources import SOURCES, Sources, SourceSettings
from autosearch_runners.synth4seg.training import BilevelTrainer
from autosearch_runners.synth4seg.validation import validate
from synth4seg_parts import EQUAL, QUICK, SIDE, TRAIN, VAL, spec_of
from torch import Tensor, nn

from autosearch.contracts import TrialContext
from autosearch.data import ImageSet, SearchData, label_regions, resize_mask
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import SyntheticSpec
from autosearch.synthesis import (
    CutPasteSettings,
    Defect,
    add_synthetic,
    at_input,
    cut_patch,
    paste,
    places,
    synthetic_validation,
)
from autosearch.testing import image_set

LEFT = np.zeros((SIDE, SIDE), dtype=bool)
LEFT[:, : SIDE // 2] = True


def with_valid(images: ImageSet, valid: np.ndarray) -> ImageSet:
    return replace(images, valid=np.broadcast_to(valid, images.masks.shape))


def test_places_are_those_wanted_that_count_or_all_that_count() -> None:
    wanted = np.zeros((2, 4, 4), bool)
    wanted[0, :2] = wanted[1, 3] = True
    valid = np.zeros((2, 4, 4), bool)
    valid[:, 1:3] = True
    np.testing.assert_array_equal(places(wanted, valid)[0], wanted[0] & valid[0])
    np.testing.assert_array_equal(places(wanted, valid)[1], valid[1])
    assert places(wanted, None) is wanted
    assert places(None, valid) is valid


def test_a_defect_is_pasted_where_pixels_count() -> None:
    image, valid = np.zeros((3, 8, 8), np.float32), np.ones((8, 8), bool)
    valid[:, 4:] = False
    texture = np.arange(27, dtype=np.float32).reshape(3, 3, 3) + 1
    pasted = paste(image, ~valid & False, Defect(texture, np.ones((3, 3), bool)), (2, 4), valid)
    np.testing.assert_array_equal(np.argwhere(pasted.area), [[1, 3], [2, 3], [3, 3]])
    np.testing.assert_array_equal(pasted.image[:, 1:4, 3], texture[:, :, 0])
    assert (pasted.image[:, ~pasted.area] == 0).all()


def test_a_patch_is_made_of_pixels_that_count() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((3, SIDE, SIDE), dtype=np.float32)
    image[:, ~LEFT] = 2
    for _ in range(60):
        patch = cut_patch(image, LEFT, rng, LEFT)
        assert patch.mask.any() and (patch.texture[:, patch.mask] <= 1).all()


@pytest.mark.parametrize("kind", ["perlin", "cutpaste"])
def test_made_anomalies_lie_where_pixels_count(kind: str) -> None:
    normals = image_set(SIDE, 3, 0, seed=0).pixels
    valid = np.stack([LEFT, ~LEFT, np.ones_like(LEFT)])
    foregrounds = np.broadcast_to(LEFT, valid.shape)
    images, masks = synthetic_validation(normals, kind, 4, 0, foregrounds=foregrounds, valid=valid)
    allowed = valid.repeat(4, axis=0)
    assert masks.any(axis=(1, 2)).all() and not (masks & ~allowed).any()
    changed = (images != normals.repeat(4, axis=0)).any(axis=1)
    assert not (changed & ~allowed).any()


@pytest.mark.parametrize("kind", ["perlin", "cutpaste"])
@pytest.mark.parametrize(
    ("numbered", "side", "edge"), [(False, 96, 48), (True, 96, 48), (True, 160, 79)]
)
def test_a_split_gains_anomalies_at_the_size_at_which_it_is_measured(
    kind: str, numbered: bool, side: int, edge: int
) -> None:
    train, val = image_set(64, 2, 0, seed=0), image_set(64, 4, 3, seed=1)
    masks = np.stack([resize_mask(mask, (side, side)) for mask in val.masks])
    regions = np.stack([label_regions(mask) for mask in masks]) if numbered else None
    valid = np.ones(masks.shape, bool)
    valid[:, :, edge:] = False  # Of 79 the last cell of the input that counts is cut.
    # One of the normal images does not count at all, and nobody marked one of the others.
    valid[3] = False
    unmarked = (False, True) + (False,) * 5
    val = replace(val, masks=masks, regions=regions, valid=valid, unmarked=unmarked)
    data = SearchData(train, val, {"sha256": "0", "counts": {"val": {}}}, ())
    found = add_synthetic(data, SyntheticSpec(kind=kind, per_image=2)).val
    assert len(found) == 7 + 2 * 3 and found.masks.shape[1:] == (side, side)
    made = found.select(found.synthetic)
    assert made.marked.all() and made.valid is not None
    assert set(made.groups) == set(val.groups[4:])
    np.testing.assert_array_equal(made.valid, valid[4:].repeat(2, axis=0))
    assert made.masks.any(axis=(1, 2)).all() and not (made.masks & ~made.valid).any()
    changed = (made.pixels != val.pixels[4:].repeat(2, axis=0)).any(axis=1)
    assert not changed[:, :, 32:].any()
    for mask, area in zip(made.masks, changed, strict=True):
        near = resize_mask(area, (side, side))
        assert (mask & near).sum() > 0.8 * mask.sum()
    if numbered:
        assert made.regions is not None
        np.testing.assert_array_equal(made.regions > 0, made.masks)
    else:
        assert found.regions is None


IMAGES, CELLS, CHANNELS = 5, 9, 6


def vectors_with_garbage(garbage: float) -> tuple[Tensor, Tensor]:
    """``(5, 9, 6)`` vectors, and the ``(5, 9)`` of them that count; the others are garbage."""
    draw = torch.Generator().manual_seed(3)
    vectors = torch.randn(IMAGES, CELLS, CHANNELS, generator=draw)
    cells = torch.rand(IMAGES, CELLS, generator=draw) < 0.6
    cells[:, 0], cells[:, 1] = True, False
    vectors[~cells] = garbage
    return vectors, cells


def looked_up(vectors: Tensor, cells: Tensor | None) -> NormalVectors:
    """Images that hold nothing but their number."""
    numbers = torch.arange(len(vectors)).float().view(-1, 1, 1, 1)
    return NormalVectors(lambda x: vectors[x.flatten().long()], numbers, 1 << 20, cells)


def test_centres_and_spread_are_of_vectors_that_count() -> None:
    vectors, cells = vectors_with_garbage(1e4)
    found = looked_up(vectors, cells)
    chosen = vectors[cells]
    mean = chosen.mean(dim=0)
    torch.testing.assert_close(found.mean("global")[0], mean)
    torch.testing.assert_close(found.mean("location")[0], vectors[:, 0].mean(dim=0))
    assert (found.mean("location")[1] == 0).all(), "no image counts there"
    spread = (chosen - mean).square().sum(dim=1).mean().sqrt().item()
    assert found.spread() == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize("hypothesis", ["manifold", "hypersphere"])
@pytest.mark.parametrize("center", ["location", "global"])
def test_glass_trains_on_vectors_that_count(hypothesis: str, center: str) -> None:
    def trained(garbage: float, of_all: bool = False) -> list[Tensor]:
        vectors, cells = vectors_with_garbage(garbage)
        draw = torch.Generator().manual_seed(0)
        adaptor, judge = make_adaptor(CHANNELS, 1, draw), Discriminator(CHANNELS, 8, draw)
        settings = TrainingSettings(epochs=2, batch=3, center=center)
        trainer = Trainer(adaptor, judge, hypothesis, settings, 0)
        source = looked_up(vectors, None if of_all else cells)

        def synthesise(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            return np.full((1, 1, 1), index, np.float32), rng.random((3, 3)) < 0.3

        def embed(images: Tensor) -> Tensor:
            moved = vectors[images.flatten().long()].clone()
            moved[:, ::2] += 0.3
            return moved

        for _ in trainer.run(source, embed, synthesise):
            pass
        return [*adaptor.state_dict().values(), *judge.state_dict().values()]

    once = trained(0.0)
    for one, other in zip(once, trained(50.0), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(once[0], trained(0.0, of_all=True)[0])


@pytest.mark.parametrize("center", ["location", "global"])
def test_cells_that_count_nowhere_might_as_well_not_be_there(center: str) -> None:
    kept = torch.tensor([True, False, True, True, False, False, True, False, True])
    vectors, _ = vectors_with_garbage(7.0)

    def trained(cells: Tensor | None, of: Tensor) -> list[Losses]:
        draw = torch.Generator().manual_seed(0)
        adaptor, judge = make_adaptor(CHANNELS, 1, draw), Discriminator(CHANNELS, 8, draw)
        settings = TrainingSettings(epochs=2, batch=3, center=center, ohem_quantile=0.0)

        def synthesise(index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            anomalous = rng.random(CELLS) < 0.4
            return np.full((1, 1, 1), index, np.float32), anomalous[of.numpy()]

        def embed(images: Tensor) -> Tensor:
            return vectors[images.flatten().long()][:, of] + 0.3

        source = looked_up(vectors[:, of], cells)
        trainer = Trainer(adaptor, judge, "hypersphere", settings, 0)
        for _ in trainer.run(source, embed, synthesise):
            pass
        return trainer.curve

    counted = trained(kept.expand(IMAGES, CELLS), torch.ones(CELLS, dtype=torch.bool))
    for one, other in zip(counted, trained(None, kept), strict=True):
        assert astuple(one) == pytest.approx(astuple(other), rel=1e-4)


def test_glass_leaves_out_images_without_a_cell_that_counts() -> None:
    images = image_set(SIDE, 3, 0, seed=0)
    valid = np.ones(images.masks.shape, bool)
    valid[1] = valid[2, :, 17:] = False
    kept, cells = _with_cells(replace(images, valid=valid), (4, 4))
    assert kept.paths == ("0.png", "2.png") and cells is not None
    assert cells[0].all() and cells[1].view(4, 4).sum(dim=0).tolist() == [4, 4, 0, 0]
    assert _with_cells(images, (4, 4)) == (images, None)
    with pytest.raises(Infeasible, match="no training image has a cell that counts, of 4 x 4"):
        _with_cells(with_valid(images, np.zeros((SIDE, SIDE), bool)), (4, 4))


def test_the_mean_image_is_of_pixels_that_count() -> None:
    pixels = np.full((2, 3, 4, 4), 0.2, np.float32)
    pixels[1] = 0.6
    valid = np.ones((2, 4, 4), bool)
    valid[0, 0], valid[:, 3] = False, False
    pixels[~valid[:, None].repeat(3, axis=1)] = 1
    found = average_image(pixels, valid)
    assert (found[:, 0] == round(0.6 * 255)).all() and (found[:, 1:3] == round(0.4 * 255)).all()
    assert (found[:, 3] == round((0.6 + 2 * 0.4) / 3 * 255)).all(), "the mean colour of the rest"


def test_losses_and_validation_see_what_counts() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(2, 8, 8, generator=draw), torch.zeros(2, 8, 8)
    targets[:, 2:5, 2:5] = 1
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[:, 4:] = False
    expected = segmentation_loss(logits[:, :4], targets[:, :4])
    torch.testing.assert_close(segmentation_loss(logits, targets, valid), expected)
    assert (segmentation_loss(logits, targets, torch.zeros_like(valid)) == 0).all()

    class Red(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images[:, 0]

    images = logits[:, None].expand(2, 3, 8, 8)
    found = validate(Red(), images, targets, "cpu", valid)
    cut = validate(Red(), images[:, :, :4], targets[:, :4], "cpu")
    assert found == pytest.approx(cut)
    assert found != pytest.approx(validate(Red(), images, targets, "cpu"))


def test_sources_paste_where_pixels_count_and_say_which_do() -> None:
    train = with_valid(TRAIN, LEFT)
    settings = SourceSettings(batch=3, variation=CutPasteSettings())
    for step in range(6):
        batch = Sources(train, settings).draw(np.random.default_rng(step), lambda _: right(3))
        assert batch.valid is not None and batch.valid.dtype == torch.bool
        assert batch.valid.shape == batch.targets.shape
        pasting = [SOURCES.index(name) for name in ("photometric", "rotation", "shear", "scale")]
        changed = (batch.images[pasting] != batch.originals).any(dim=2)
        assert (
            batch.areas[pasting].flatten(2).any(dim=2).all()
            and not changed[..., SIDE // 2 :].any()
        )
        assert (batch.valid[pasting] == torch.from_numpy(LEFT)).all()
        moved = batch.to("cpu")
        assert moved.valid is not None and torch.equal(moved.valid, batch.valid)
    assert Sources(TRAIN, settings).draw(np.random.default_rng(0)).valid is None


def right(count: int) -> np.ndarray:
    """A location map that allows only what is too far from anything that counts."""
    allowed = np.zeros((count, SIDE, SIDE), bool)
    allowed[..., -1] = True
    return allowed


def test_what_counts_goes_along_with_the_image() -> None:
    # Where nothing counts the images are white, and they stay so wherever it moves to.
    pixels = np.where(LEFT, TRAIN.pixels * 0.5, np.float32(1))
    train = with_valid(replace(TRAIN, pixels=pixels), LEFT)
    sources = Sources(train, SourceSettings(names=("trivial_augment",), batch=7))
    moved = 0
    for step in range(16):
        batch = sources.draw(np.random.default_rng(step))
        assert batch.valid is not None
        for image, valid in zip(batch.images[0], batch.valid[0], strict=True):
            if torch.equal(valid, torch.from_numpy(LEFT)):
                continue
            moved += 1
            assert (image[:, ~valid] > 0.5).all() and (image[:, valid] < 0.8).all()
    assert moved > 8


def test_only_what_counts_of_a_defect_is_cut_out() -> None:
    sources = Sources(with_valid(TRAIN, LEFT), SourceSettings())
    assert sum(d.mask.sum() for d in sources.defects) == (TRAIN.masks & LEFT).sum() > 0
    assert (TRAIN.masks & ~LEFT).any()


def test_defects_that_do_not_count_are_none() -> None:
    train = with_valid(TRAIN, np.zeros((SIDE, SIDE), bool))
    with pytest.raises(ConfigError, match="3 anomalous training images, no defect on them"):
        Sources(train, SourceSettings())


def test_synth4seg_is_judged_at_the_size_of_its_images_and_by_what_counts() -> None:
    runner = Synth4SegRunner(spec_of())

    def curve(train: ImageSet, val: ImageSet) -> list[float]:
        context = TrialContext(0, "cpu", (SIDE, SIDE), val)
        params = QUICK | EQUAL | {"epochs": 1, "images_per_epoch": 2}
        detector = runner.build(runner.canonical(params), context)
        detector.fit(train)
        return [value for epoch in detector.curve for value in (epoch.inner, epoch.outer)]

    twice = replace(VAL, masks=VAL.masks.repeat(2, axis=1).repeat(2, axis=2))
    known = curve(TRAIN, VAL)
    assert curve(TRAIN, twice) == known
    valid = np.ones((2 * SIDE, 2 * SIDE), bool)
    valid[: SIDE // 2] = False
    assert curve(TRAIN, with_valid(twice, valid))[1] != known[1]
    assert curve(with_valid(TRAIN, LEFT), VAL)[0] != known[0]
    # Anomalous images on which nobody marked where are left out of both.
    for images in (TRAIN, VAL):
        first = replace(images, unmarked=(True,) + (False,) * (len(images) - 1))
        rest = images.select(np.arange(len(images)) > 0)
        pair = [(first, VAL), (rest, VAL)] if images is TRAIN else [(TRAIN, first), (TRAIN, rest)]
        assert curve(*pair[0]) == curve(*pair[1]) != known


def test_what_is_anomalous_where_nothing_counts_steers_no_outer_step() -> None:
    images, masks = bilevel_parts.VAL
    valid = torch.ones(masks.shape, dtype=torch.bool)
    valid[:, 8:] = False

    def curve(masks: Tensor, valid: Tensor | None) -> list[Epoch]:
        settings = replace(bilevel_parts.QUICK, epochs=2)
        trainer = BilevelTrainer(bilevel_parts.Net(), None, settings, 0, "cpu")
        run = trainer.run(bilevel_parts.Squares(), bilevel_parts.TRAIN, images, masks, valid)
        assert list(run)
        return trainer.curve

    known = curve(masks, valid)
    assert known[0].outer_steps
    assert curve(torch.where(valid, masks, 1 - masks), valid) == known
    whole = curve(masks, None)
    assert whole[0].outer_steps[0].length != known[0].outer_steps[0].length
    assert whole[0].iou != known[0].iou


def test_masks_at_the_size_of_images_hold_what_counts() -> None:
    masks, counted = at_input(VAL)
    assert masks is VAL.masks and counted is None
    wide = replace(VAL, masks=np.ones((5, 2 * SIDE, 2 * SIDE), bool), unmarked=(True,) * 5)
    masks, counted = at_input(wide)
    assert masks.shape == (5, SIDE, SIDE) and not masks.any()
    assert counted is not None and not counted.any()
