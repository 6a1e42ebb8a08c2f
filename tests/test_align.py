"""Objects turned and moved until all lie alike, before anything is resized."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from align_parts import GROUND, SHAPE, Lie, defect, lies, photo, turned_dataset
from dataset_parts import command
from object_parts import exported, mark, plain, save

from autosearch.data import Box, Framing, View, label_regions, load_search_data, load_test_set
from autosearch.data.align import Alignment, aligned
from autosearch.data.images import read_image
from autosearch.data.objects import find_object
from autosearch.data.parts import Part
from autosearch.data.turning import Turn, upright_regions
from autosearch.export import Predictor
from autosearch.spec.sections import DatasetSpec

PARTS: dict[str, dict[str, Any]] = {
    "long": {},
    "square": {"size": (56, 56)},
    "nearly square": {"size": (56, 60)},
    "disc": {"size": (64, 64), "disc": True},
}


def measured(image: np.ndarray) -> Part:
    found = find_object(image)
    assert found is not None
    return Part.of(image, found)


def off(turn: Turn, lie: Lie, first: Turn, start: Lie) -> tuple[float, float]:
    """Degrees and pixels by which two parts lie otherwise once they are upright."""
    points = np.array([start.centre, (start.centre[0], start.centre[1] + 1.0)])
    angle = np.deg2rad(lie.degrees - start.degrees)
    moved = points - start.centre
    across = np.cos(angle) * moved[:, 1] - np.sin(angle) * moved[:, 0]
    down = np.sin(angle) * moved[:, 1] + np.cos(angle) * moved[:, 0]
    there = turn.from_file(np.stack([down, across], axis=1) + lie.centre)
    here = first.from_file(points)
    wrong = (turn.degrees - lie.degrees - first.degrees + start.degrees + 180) % 360 - 180
    return abs(float(wrong)), float(np.linalg.norm(there[0] - here[0]))


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("degrees", [4, 180])
def test_turn_and_place_are_recovered(kind: str, degrees: float) -> None:
    places = lies(12, 1, degrees)
    parts = [measured(photo(lie, i, **PARTS[kind])) for i, lie in enumerate(places)]
    pose, size = aligned(parts[:6], tall=False)
    turns = [pose.turn(part) for part in parts]
    for turn, lie in zip(turns, places, strict=True):
        angle, distance = off(turn, lie, turns[0], places[0])
        assert angle < 1 and distance < 1
    height, width = PARTS[kind].get("size", (44, 80))
    assert max(size) < 1.3 * max(height, width)  # even of a square that the first shows tilted


@pytest.mark.parametrize("kind", PARTS)
def test_a_missing_corner_does_not_turn_or_move_a_part(kind: str) -> None:
    places = lies(8, 2)
    whole = [measured(photo(lie, i, **PARTS[kind])) for i, lie in enumerate(places)]
    pose, _ = aligned(whole, tall=False)
    for i, lie in enumerate(places):
        turn = pose.turn(measured(photo(lie, i, broken=True, **PARTS[kind])))
        angle, distance = off(turn, lie, pose.turn(whole[i]), lie)
        assert angle < 1 and distance < 1


def test_parts_that_lie_alike_stay_as_they_are_photographed() -> None:
    parts = [measured(photo(lie, i)) for i, lie in enumerate(lies(6, 1, 4))]
    tilted = [measured(photo(Lie(30 + i), i)) for i in range(6)]
    square = [measured(photo(Lie(30 + i), i, (56, 56))) for i in range(6)]
    # The axis of the first is -88 degrees, the mean 88.
    upright = [measured(photo(Lie(turn), i)) for i, turn in enumerate((92, 87, 86, 88, 87))]
    for alike in (parts, tilted, square, upright):
        pose, _ = aligned(alike, False)
        assert all(abs(pose.turn(part).degrees) < 6 for part in alike)


def test_the_mean_of_a_hundred_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autosearch.data.align._ENOUGH", 3)
    places = lies(9, 4)
    parts = [measured(photo(lie, i)) for i, lie in enumerate(places)]
    pose, size = aligned(parts, tall=False)
    for part, lie in zip(parts, places, strict=True):
        turn = pose.turn(part)
        assert max(off(turn, lie, pose.turn(parts[0]), places[0])) < 1
        assert 0 <= turn.middle[0] <= size[0]


@pytest.mark.parametrize("tall", [False, True])
def test_parts_turned_at_random_lie_along_the_picture(tall: bool) -> None:
    parts = [measured(photo(lie, i)) for i, lie in enumerate(lies(6, 1))]
    height, width = aligned(parts, tall)[1]
    assert (height > width) == tall


def test_a_plain_disc_is_moved_and_not_turned() -> None:
    yy, xx = np.indices(SHAPE)
    parts = []
    for i, place in enumerate([(50, 70), (60, 90), (55, 75)]):
        noise = np.random.default_rng(i).normal(0, 0.01, (1, *SHAPE))
        disc = (yy - place[0]) ** 2 + (xx - place[1]) ** 2 < 30**2
        parts.append(measured((np.where(disc, 0.2, 0.9) + noise).repeat(3, 0).astype(np.float32)))
    pose, _ = aligned(parts, tall=False)
    turns = [pose.turn(part) for part in parts]
    assert max(abs(turn.degrees) for turn in turns) < 1
    np.testing.assert_allclose(turns[1].centre, (60.5, 90.5), atol=0.5)


def test_what_is_far_and_small_is_no_part_of_the_object() -> None:
    image = photo(Lie(20), 0)
    crumb = image.copy()
    crumb[:, 5:13, 5:13] = 0.1
    found = find_object(crumb)
    assert found is not None and found.mask[9, 9]
    np.testing.assert_allclose(Part.of(crumb, found).centre, measured(image).centre, atol=0.1)


def framed(count: int = 6, **keys: Any) -> tuple[Framing, list[View], list[Lie]]:
    places = lies(count, 1)
    pose, size = aligned([measured(photo(lie, i)) for i, lie in enumerate(places)], False)
    framing = Framing(size, preprocess="align", object_size=size, alignment=pose, **keys)
    return framing, [framing.view(photo(lie, i)) for i, lie in enumerate(places)], places


def test_all_that_is_seen_is_alike() -> None:
    framing, views, places = framed()
    seen = [framing.pixels(photo(lie, i), view)
            for i, (view, lie) in enumerate(zip(views, places, strict=True))]  # fmt: skip
    assert framing.size == views[0].source.size and all(view.whole_object for view in views)
    for other in seen[1:]:
        assert np.abs(other - seen[0]).mean() < 0.02
        assert np.corrcoef(other.ravel(), seen[0].ravel())[0, 1] > 0.98


def test_beyond_the_photograph_is_its_background_which_does_not_count() -> None:
    framing, _, _ = framed()
    near = Lie(25, (30.0, 46.0))
    view = framing.view(photo(near))
    valid = framing.valid(view)
    assert valid is not None and 0.6 < valid.mean() < 1
    seen = framing.pixels(photo(near), view)
    np.testing.assert_allclose(seen[:, ~valid].mean(axis=1), GROUND, atol=0.02)
    padded = Framing((90, 90), "letterbox", None, "align", framing.object_size,
                     alignment=framing.alignment)  # fmt: skip
    assert padded.view(photo(near)).target.top > 0
    np.testing.assert_allclose(
        padded.pixels(photo(near), padded.view(photo(near)))[:, 0].mean(axis=1), GROUND, atol=0.02
    )


@pytest.mark.parametrize("region", [None, Box(20, 30, 118, 150)])
def test_maps_come_back_to_the_photograph(region: Box | None) -> None:
    framing, views, places = framed(region=region)
    for i, (view, lie) in enumerate(zip(views, places, strict=True)):
        truth = defect(lie)
        seen = framing.mask(truth, view, "nearest")
        # One place of the part is one place of the picture.
        first = framing.mask(defect(places[0]), views[0], "nearest")
        assert (seen & first).sum() / (seen | first).sum() > 0.8
        back = framing.restored(seen.astype(np.float32) + 1, view)
        found = back > 1.5
        assert back.shape == SHAPE and (found & truth).sum() / (found | truth).sum() > 0.8
        assert (back[~view.known] == back[view.known].min()).all()
        if region is not None:
            outside = np.ones(SHAPE, dtype=bool)
            outside[region.slices] = False
            assert not (view.known & outside).any(), i


def test_regions_are_those_of_the_file_and_none_is_lost() -> None:
    framing, views, places = framed()
    rng = np.random.default_rng(0)
    for view, lie in zip(views, places, strict=True):
        mask = defect(lie)
        near = np.argwhere(view.known & ~defect(lie))
        for y, x in near[rng.choice(len(near), 12, replace=False)]:
            if not mask[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].any():
                mask[y, x] = True  # regions of one pixel, which turning may miss
        count = int(label_regions(mask & view.known).max())
        labels, lost = framing.regions(mask, view, "nearest")
        assert lost == 0 and set(np.unique(labels)) == set(range(count + 1))
        np.testing.assert_array_equal(labels > 0, framing.mask(mask, view, "nearest"))
        assert view.seen(mask)


def test_single_pixels_keep_one_however_a_picture_is_turned() -> None:
    rng = np.random.default_rng(0)
    lost = 0
    for degrees in rng.uniform(-180, 180, 40):
        turn = Turn((20.3, 20.8), (20.0, 20.0), float(degrees))
        mask = np.zeros((40, 40), dtype=bool)
        mask[12:30:3, 12:30:3] = True
        lost += int((label_regions(turn.upright(mask, (40, 40))) > 0).sum() < 36)
        assert upright_regions(mask, turn, (40, 40)).max() == 36
    assert lost > 10  # which nearest pixels alone would do


def spec(base: Path, **keys: object) -> DatasetSpec:
    given = {"name": "x", "root": str(base.parent), "category": "part", "preprocess": "align"}
    return DatasetSpec.model_validate(given | {"image_size": [56, 96]} | keys)


def test_a_search_sees_parts_that_lie_alike(tmp_path: Path) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    data = load_search_data(spec(base))
    pixels = data.train.pixels
    assert np.abs(pixels - pixels.mean(axis=0)).mean() < 0.02
    notes = " ".join(data.info["notes"])  # type: ignore[arg-type]
    assert "object found in 8 of 8 normal training images; canvas 56 x 92 px" in notes
    again = load_search_data(spec(base))
    assert json.dumps(again.info["framing"]) == json.dumps(data.info["framing"])
    stored = json.loads(json.dumps(data.info["framing"]))
    assert Framing.from_plain(stored).alignment == Framing.from_plain(stored).alignment
    images, _ = load_test_set(spec(base, evaluation_size=112))
    assert images.masks.shape[1:] == (112, 192)
    marked = images.masks[images.labels]
    assert (marked[0] & marked[1]).sum() / (marked[0] | marked[1]).sum() > 0.8
    assert images.regions is not None
    for i in np.flatnonzero(images.labels):
        red = images.pixels[i][0] - images.pixels[i][1] > 0.25
        large = np.kron(red, np.ones((2, 2), dtype=bool))
        assert (large & images.masks[i]).sum() / (large | images.masks[i]).sum() > 0.7
        np.testing.assert_array_equal(images.regions[i] > 0, images.masks[i])


def test_test_images_are_no_part_of_what_is_decided(tmp_path: Path) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    before = load_search_data(spec(base)).info["framing"]
    large = photo(Lie(10), 0, (100, 140))
    save(base / "test/good/000.png", (large.transpose(1, 2, 0) * 255).astype(np.uint8))
    assert load_search_data(spec(base)).info["framing"] == before
    _, info = load_test_set(spec(base))
    notes = " ".join(info["notes"])  # type: ignore[arg-type]
    assert "larger than any normal training image, cut at the canvas" in notes


def test_images_without_an_object_are_whole_and_named(tmp_path: Path) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    save(base / "train/good/004.png", plain(4, SHAPE))
    data = load_search_data(spec(base))
    notes = " ".join(data.info["notes"])  # type: ignore[arg-type]
    assert "has no object that stands out, so the whole image is used" in notes
    whole = data.train.pixels[data.train.paths.index("part/train/good/004.png")]
    image, expected = read_image(base / "train/good/004.png"), Framing((56, 96))
    np.testing.assert_array_equal(whole, expected.pixels(image, expected.view(image)))


def test_a_model_aligns_as_the_search_did(tmp_path: Path) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    mark(tmp_path / "upper.png", Box(0, 0, 100, 160), SHAPE)
    folder, images = exported(
        tmp_path, base, "dataset.preprocess=align", "dataset.image_size=[56, 96]",
        f"dataset.region_of_interest={tmp_path / 'upper.png'}",
    )  # fmt: skip
    stored = json.loads((folder / "model.json").read_text())["input"]["framing"]
    assert stored["preprocess"] == "align" and len(stored["alignment"]["template"]) < 6000
    assert "an object is looked for (`align`: turned and" in (folder / "README.md").read_text()
    found = Predictor(folder)
    framing = found.model.framing
    files = [base.parent / name for name in images.paths]
    answers = found(files)
    assert [answer.object_found for answer in answers] == [True] * len(files)
    maps, _ = found.model.run(images.pixels)
    for i, answer in enumerate(answers):
        image = read_image(files[i])
        view = framing.view(image)
        np.testing.assert_array_equal(framing.pixels(image, view), images.pixels[i])
        valid = framing.valid(view)
        assert valid is not None
        assert answer.score == pytest.approx(float(maps[i][valid].max()), rel=1e-4)
        assert answer.map.shape == SHAPE and not view.known[100:].any()
        assert (answer.map[~view.known] == answer.map[view.known].min()).all()


@pytest.mark.parametrize("change", [
    {"template": "AAAA"}, {"template": "?"}, {"reach": 0}, {"middle": [1, float("nan")]},
    {"middle": [1]}, {"reach": None}, {"axis": "x"},
])  # fmt: skip
def test_a_damaged_pose_is_refused(change: dict[str, object]) -> None:
    framing = framed(2)[0]
    plain = framing.to_plain()
    assert Framing.from_plain(json.loads(json.dumps(plain))) == framing
    with pytest.raises(ValueError):
        Framing.from_plain(plain | {"alignment": plain["alignment"] | change})
    with pytest.raises(ValueError, match="align with the pose None"):
        Framing.from_plain(plain | {"alignment": None})
    with pytest.raises(ValueError, match="centre with the pose"):
        Framing.from_plain(plain | {"preprocess": "centre"})


def test_a_pose_without_axis_is_kept() -> None:
    pose = Alignment(None, 30.0, (40.0, 40.0), bytes([128]) * 4096)
    assert Alignment.from_plain(json.loads(json.dumps(pose.to_plain()))) == pose


def test_a_photograph_of_a_thousand_pixels_is_aligned_quickly() -> None:
    image = photo(Lie(33, (128, 128)), 0, (100, 160), (256, 256))
    image = image.repeat(4, axis=1).repeat(4, axis=2)
    pose, size = aligned([measured(image)], tall=False)
    framing = Framing((224, 224), preprocess="align", object_size=size, alignment=pose)
    taken = []
    for _ in range(3):
        before = time.thread_time()
        framing.pixels(image, framing.view(image))
        taken.append(time.thread_time() - before)
    assert min(taken) < 0.4  # of a processor that others use as well; 0.15 on an idle one


def test_looks_are_drawn_of_turned_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    code, text = command(
        capsys, "data", "look", base.parent, "part", "--out", tmp_path / "look.jpg",
        "--set", "dataset.preprocess=align",
    )  # fmt: skip
    assert code == 0 and "look.jpg" in text and (tmp_path / "look.jpg").stat().st_size > 10_000
