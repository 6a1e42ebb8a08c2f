"""Images that are not square: made-up anomalies, GLASS and Synth4Seg on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.glass.detector import GlassDetector, GlassMaps
from autosearch_runners.glass.runner import GlassRunner
from autosearch_runners.synth4seg.artifacts import locations_jpg
from autosearch_runners.synth4seg.looks import LocationMaps
from autosearch_runners.synth4seg.runner import Synth4SegRunner
from PIL import Image
from scipy import ndimage
from synth4seg_parts import QUICK, spec_of
from torch import Tensor, nn

from autosearch.contracts import TrialContext
from autosearch.errors import Infeasible
from autosearch.spec import Params, parse_spec
from autosearch.synthesis import (
    FolderTextures,
    ProceduralTextures,
    SelfTextures,
    SynthesisSettings,
    draw_texture,
    open_textures,
    perlin,
    pool_mask,
    synthesise,
    synthetic_validation,
)
from autosearch.synthesis.perlin import perlin_mask, perlin_noise
from autosearch.testing import image_set

SIZES = ((24, 80), (70, 33))
GLASS: Params = {"embed_dim": 32, "disc_hidden": 16, "epochs": 1, "ascent_steps": 3, "batch": 3}


def glass(params: Params, size: tuple[int, int]) -> GlassDetector:
    content = {
        "study": {"name": "test", "runner": "glass"},
        "space": {"lr": [1e-4, 1e-3]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    runner = GlassRunner(parse_spec(content))
    return runner.build(runner.canonical(GLASS | params), TrialContext(0, "cpu", size))


@pytest.mark.parametrize("size", SIZES)
def test_noise_of_a_rectangle_is_that_of_its_lattice(size: tuple[int, int]) -> None:
    noise = perlin_noise(size, (2, 5), np.random.default_rng(7))
    angle = np.random.default_rng(7).uniform(0, 2 * np.pi, (3, 6)).astype(np.float32)
    for y, x in ((0, 0), (5, 31), (size[0] - 1, size[1] - 1)):
        place = np.array([y * 2 / size[0], x * 5 / size[1]])
        expected = 0.0
        for row in (int(place[0]), int(place[0]) + 1):
            for column in (int(place[1]), int(place[1]) + 1):
                gap = place - (row, column)
                near = 1 - np.abs(gap)
                fade = near**3 * (near * (near * 6 - 15) + 10)
                slope = np.array([np.sin(angle[row, column]), np.cos(angle[row, column])])
                expected += fade.prod() * (slope @ gap)
        assert noise[y, x] == pytest.approx(np.sqrt(2) * expected, abs=1e-5)


def test_sides_have_periods_of_their_own_which_go_on_to_a_square(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = set()

    def noise(shape: tuple[int, int], frequencies: tuple[int, int], _: object) -> np.ndarray:
        assert min(shape) >= 64, "the noise covers what turns into view"
        seen.add(tuple(side / periods for side, periods in zip(shape, frequencies, strict=True)))
        return np.zeros(shape, dtype=np.float32)

    monkeypatch.setattr(perlin, "perlin_noise", noise)
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert perlin_mask((16, 64), 5, 0.5, rng).shape == (16, 64)
    lengths = [16 / 2**e for e in range(4)], [64 / 2**e for e in range(6)]
    assert seen == {(down, along) for down in lengths[0] for along in lengths[1]}


def test_the_ends_of_a_long_image_become_anomalous_as_its_middle_does() -> None:
    rng = np.random.default_rng(0)
    often = np.mean([perlin_mask((16, 96), 4, 0.2, rng) for _ in range(600)], axis=(0, 1))
    ends, middle = np.concatenate([often[8:20], often[-20:-8]]).mean(), often[42:54].mean()
    assert ends > 0.8 * middle > 0


def test_cells_are_counted_on_either_side() -> None:
    mask = np.zeros((20, 34), bool)
    mask[17, 33] = True
    pooled = pool_mask(mask, 8)
    assert pooled.shape == (3, 5)
    np.testing.assert_array_equal(np.argwhere(pooled), [[2, 4]])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("source", ["self", "procedural"])
def test_textures_have_the_shape_asked_for(source: str, size: tuple[int, int]) -> None:
    normals = np.random.default_rng(0).random((2, 3, *size), dtype=np.float32)
    textures = open_textures(source, normals)
    for seed in range(8):
        texture = draw_texture(textures, size, 3, np.random.default_rng(seed))
        assert texture.shape == (3, *size) and texture.std() > 0


@pytest.mark.parametrize(("size", "covering"), [((30, 90), (90, 45)), ((90, 30), (180, 90))])
def test_a_picture_of_a_folder_just_covers_the_size(
    tmp_path: Path, size: tuple[int, int], covering: tuple[int, int]
) -> None:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    picture = FolderTextures(tmp_path).picture(size, np.random.default_rng(0))
    assert picture.size == covering


def test_tiles_of_a_mosaic_and_patterns_stay_square() -> None:
    # Every pixel names its row and column, so that a tile is where both change by one.
    rows, columns = np.mgrid[:96, :96] / 255
    normals = np.stack([np.stack([rows, columns, rows])]).astype(np.float32)
    for seed in range(6):
        picture = SelfTextures(normals).picture((32, 80), np.random.default_rng(seed))
        levels = np.asarray(picture).astype(int)
        jumps = [
            {int(place) + 1 for place in np.flatnonzero((np.abs(steps) > 1).any(axis=other))}
            for steps, other in (
                (np.diff(levels[..., :2], axis=0).max(axis=2), 1),
                (np.diff(levels[..., :2], axis=1).max(axis=2), 0),
            )
        ]
        side = min(jumps[0] | jumps[1])
        assert side in (4, 8, 16)
        assert jumps[0] <= set(range(side, 32, side))
        assert jumps[1] <= set(range(side, 80, side))
    assert ProceduralTextures().picture((32, 80), np.random.default_rng(0)).size == (80, 80)


@pytest.mark.parametrize("size", SIZES)
def test_anomalies_of_either_kind_lie_on_rectangles(size: tuple[int, int]) -> None:
    normals = image_set(size, 2, 0, seed=0).pixels
    rng = np.random.default_rng(0)
    made = synthesise(normals[0], SynthesisSettings(cell=8), ProceduralTextures(), None, rng)
    assert made.image.shape == (3, *size) and made.mask.any()
    assert (made.image == normals[0])[:, ~made.mask].all()
    np.testing.assert_array_equal(made.pooled_mask, pool_mask(made.mask, 8))
    for kind in ("perlin", "cutpaste"):
        images, masks = synthetic_validation(normals, kind, 2, 0)
        assert images.shape == (4, 3, *size) and masks.any(axis=(1, 2)).all()


class Rows(nn.Module):
    """Fixed scores, whatever the images."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, images: Tensor) -> Tensor:
        return self.scores


@pytest.mark.parametrize("sigma", [0.0, 2.5])
def test_maps_of_glass_are_resized_and_smoothed_along_both_sides(sigma: float) -> None:
    scores = torch.rand(2, 3, 7, generator=torch.Generator().manual_seed(0))
    found = GlassMaps(Rows(scores), (3, 7), (24, 50), sigma)(torch.empty(0))
    large = F.interpolate(scores[:, None], (24, 50), mode="bilinear", align_corners=False)[:, 0]
    expected = large.double().numpy()
    if sigma:
        expected = ndimage.gaussian_filter(expected, (0, sigma, sigma), mode="reflect")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(32, 56), (56, 32)])
@pytest.mark.parametrize("hypothesis", ["manifold", "hypersphere"])
def test_glass_trains_on_rectangles(size: tuple[int, int], hypothesis: str) -> None:
    detector = glass({"hypothesis": hypothesis, "texture_source": "self"}, size)
    detector.fit(image_set(size, 4, 0, seed=0))
    maps = detector.anomaly_maps(torch.from_numpy(image_set(size, 1, 1, seed=1).pixels.copy()))
    assert maps.shape == (2, *size) and maps.std() > 0


def test_anomalies_of_glass_lie_where_pixels_of_a_rectangle_count() -> None:
    train = image_set((32, 56), 2, 0, seed=0)
    valid = np.zeros(train.masks.shape, dtype=bool)
    valid[:, :, 40:] = True
    anomalous = glass({}, (32, 56))._synthesiser(replace(train, valid=valid), 8)
    for seed in range(10):
        image, cells = anomalous(seed % 2, np.random.default_rng(seed))
        assert cells.any() and not cells[:, :5].any()
        assert (image == train.pixels[seed % 2])[:, :, :40].all()


def test_glass_names_the_side_that_no_cells_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = glass({}, (32, 40))
    scores = torch.zeros(1, 4, 6)
    monkeypatch.setattr("autosearch_runners.glass.detector.PatchScores.forward", lambda *_: scores)
    with pytest.raises(Infeasible, match="6 cells of 8 pixels a side from images of 40 pixels"):
        detector.fit(image_set((32, 40), 2, 0, seed=0))


def test_synth4seg_trains_on_rectangles_that_are_no_whole_cells() -> None:
    size = (34, 50)
    runner = Synth4SegRunner(spec_of())
    params = QUICK | {"outer_task": "both", "sources": "trivial_augment+scale", "epochs": 1}
    context = TrialContext(0, "cpu", size, image_set(size, 1, 2, seed=1))
    detector = runner.build(runner.canonical(params), context)
    detector.fit(image_set(size, 2, 3, seed=0))
    maps = detector.anomaly_maps(torch.from_numpy(image_set(size, 1, 1, seed=2).pixels.copy()))
    assert maps.shape == (2, *size) and maps.std() > 0
    assert "locations.jpg" in detector.artifacts()


@pytest.mark.parametrize(("size", "tile"), [((64, 64), (124, 124)), ((32, 64), (64, 124))])
def test_location_maps_are_drawn_in_the_shape_of_the_images(
    tmp_path: Path, size: tuple[int, int], tile: tuple[int, int]
) -> None:
    look = LocationMaps(0, (0, 1), np.zeros((2, 32, 64), np.float32))
    (tmp_path / "a.jpg").write_bytes(locations_jpg(np.zeros((2, 3, *size), np.float32), [look]))
    with Image.open(tmp_path / "a.jpg") as drawn:
        assert drawn.size == (2 * tile[1], 2 * tile[0])
