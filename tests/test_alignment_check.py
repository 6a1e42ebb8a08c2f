"""What a check says of how alike images are in the same places."""

from pathlib import Path

import numpy as np
import pytest
from align_parts import Lie, lies, photo, turned_dataset
from dataset_parts import command, sound_dataset
from scipy import ndimage

from autosearch.api import check_data
from autosearch.data import Framing
from autosearch.data.likeness import Likeness, Seen, likeness


def held_together(images: list[np.ndarray], framing: Framing | None = None) -> Likeness:
    framing = framing or Framing((64, 64))
    found = likeness([Seen.of(image, framing.view(image), framing) for image in images])
    assert found is not None
    return found


def parts(count: int, degrees: float, pixels: float) -> list[np.ndarray]:
    return [photo(lie, i) for i, lie in enumerate(lies(count, 1, degrees, pixels))]


def texture(seed: int, blur: float = 2, shape: tuple[int, int] = (128, 128)) -> np.ndarray:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), blur)
    values = (values - values.min()) / np.ptp(values)
    return np.stack([values] * 3).astype(np.float32)


def test_a_part_that_stays_put_is_aligned() -> None:
    found = held_together(parts(12, 1, 0.5))
    assert found.shares[0] < 0.3 and found.windows == (0, 2)
    assert found.overlap is not None and found.overlap > 0.95
    assert found.text == (
        f"aligned: the same place differs {found.shares[0]:.2f} as much as another, "
        f"{found.shares[3]:.2f} where it may lie 3/16 of the image aside; objects overlap by "
        f"{found.overlap:.0%}; windows of 0 to 2 patches are worth trying"
    )


def test_a_part_that_moves_a_little_wants_a_wider_window() -> None:
    found = held_together(parts(12, 4, 3))
    assert 0.2 < found.shares[0] < 0.6 and found.windows is not None and found.windows[0] > 0
    assert sorted(found.shares, reverse=True) == list(found.shares)


@pytest.mark.parametrize(("degrees", "pixels"), [(180, 0), (0, 25), (180, 25)])
def test_a_part_that_is_turned_or_moved_a_lot_is_not_aligned(
    degrees: float, pixels: float
) -> None:
    found = held_together(parts(12, degrees, pixels))
    assert found.shares[0] > 0.85 and found.windows is None
    assert found.overlap is not None and found.overlap < 0.8
    assert found.text.startswith("not aligned: the same place differs")
    assert found.text.endswith(
        "windows will hardly help; try dataset.preprocess=align if the part stands out"
    )


@pytest.mark.parametrize("blur", [1.5, 5])
def test_a_texture_is_not_aligned_and_has_no_object_to_align(blur: float) -> None:
    found = held_together([texture(i, blur) for i in range(12)])
    assert found.shares[0] == pytest.approx(1, abs=0.1) and found.overlap is None
    assert found.text.endswith("as much as another; windows will hardly help")


def test_what_lies_anywhere_is_the_least() -> None:
    found = held_together([texture(i) for i in range(8)])
    assert found.anywhere <= found.shares[3] + 0.01


def test_the_same_image_everywhere_is_the_same_in_every_place() -> None:
    found = held_together([texture(0)] * 3)
    assert found.shares == (0, 0, 0, 0) and found.anywhere == 0


def test_against_a_slow_oracle() -> None:
    images = [texture(i, 3, (96, 128)) for i in range(3)]
    framing = Framing((96, 128))
    seen = [Seen.of(image, framing.view(image), framing) for image in images]
    found = likeness(seen)
    grey = np.stack([image.pixels.mean(axis=0) for image in seen])
    rows, columns = (side // 8 for side in grey.shape[1:])
    described = np.zeros((3, rows, columns, 3))
    for i, (image, down, across) in enumerate(zip(grey, *np.gradient(grey, axis=(1, 2)),
                                                  strict=True)):  # fmt: skip
        for y in range(rows):
            for x in range(columns):
                cell = slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8)
                described[i, y, x] = [
                    image[cell].mean(), np.abs(down[cell]).mean(), np.abs(across[cell]).mean(),
                ]  # fmt: skip
    described /= described.std(axis=(0, 1, 2))
    sums, count = np.zeros(6), 0
    for one in range(3):
        for other in {0, 1, 2} - {one}:
            for y in range(rows):
                for x in range(columns):
                    away = np.linalg.norm(described[other] - described[one, y, x], axis=-1)
                    near = [
                        away[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1].min()
                        for r in range(4)
                    ]
                    sums += [*near, away.min(), away.mean()]
                    count += 1
    assert found is not None and count == 6 * rows * columns
    np.testing.assert_allclose([*found.shares, found.anywhere], sums[:5] / sums[5], rtol=1e-4)


def test_padding_and_background_are_not_compared() -> None:
    # Padding is the same in all, and would make them alike.
    wide = [texture(i, 2, (64, 192)) for i in range(8)]
    padded = held_together(wide, Framing((128, 128)))
    assert padded.shares[0] == pytest.approx(1, abs=0.15)


def test_one_image_or_none_is_not_compared() -> None:
    framing = Framing((64, 64))
    image = texture(0)
    assert likeness([]) is None
    assert likeness([Seen.of(image, framing.view(image), framing)]) is None
    flat = np.full((3, 64, 64), 0.5, dtype=np.float32)
    assert likeness([Seen.of(flat, framing.view(flat), framing)] * 2) is None


def test_images_of_any_aspect_have_about_as_many_places() -> None:
    for shape in [(40, 640), (640, 40), (200, 200)]:
        framing = Framing(shape)
        image = texture(0, 2, shape)
        height, width = Seen.of(image, framing.view(image), framing).valid.shape
        assert 0.8 < (height // 8) * (width // 8) / 256 <= 1.05


def test_between_the_two_only_wide_windows_are_named() -> None:
    found = Likeness(0.7, (0.7, 0.4, 0.3, 0.2), 0.2)
    assert found.windows == (3, 6) and found.text == (
        "roughly aligned: the same place differs 0.70 as much as another, 0.20 where it may lie "
        "3/16 of the image aside; objects overlap by 70%; if any, wide windows of 3 to 6 patches "
        "will help; try dataset.preprocess=align if the part stands out"
    )
    assert "try dataset" not in Likeness(0.7, (0.7, 0.4, 0.3, 0.2), 0.2, "align").text
    assert "try dataset" in Likeness(None, (0.9, 0.4, 0.3, 0.2), 0.2, "centre").text


def test_a_check_says_it_before_and_after_aligning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "made" / "part"
    turned_dataset(base)
    before = check_data(base.parent, "part").alignment
    after = check_data(base.parent, "part", ["dataset.preprocess=align"]).alignment
    assert before is not None and after is not None
    assert before.windows is None and after.windows == (0, 2) and after.shares[0] < 0.2
    assert before.text.endswith("try dataset.preprocess=align if the part stands out")
    code, text = command(capsys, "data", "check", base.parent, "part")
    assert code == 0 and before.text in text
    code, text = command(
        capsys, "data", "check", base.parent, "part", "--set", "dataset.preprocess=align"
    )
    assert code == 0 and after.text in text and "aligned" in text


def test_no_more_than_fifty_images_are_compared_and_no_test_image(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "made" / "part")
    before = check_data(base.parent, "part").alignment
    (base / "test/good/000.png").write_bytes((base / "train/good/000.png").read_bytes())
    assert check_data(base.parent, "part").alignment == before


def test_a_part_lies_where_its_place_says() -> None:
    # The drawings above mean what they say: a turn of 90 degrees is clockwise.
    upright, turned = photo(Lie(0)), photo(Lie(90))
    assert upright[0, 41, 45] > 0.45 and turned[0, 25, 99] > 0.45
