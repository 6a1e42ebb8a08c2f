"""Normal images that fill a bank once more, changed."""

import pytest
import torch
from autosearch_runners.augmentation import KEY, PARAMETER, augmented, enlargement

from autosearch.errors import Infeasible


def images(count: int = 3, size: tuple[int, int] = (4, 4)) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def all_of(given: torch.Tensor, kind: str | None, batch: int = 2) -> torch.Tensor:
    return torch.cat([part for part, _ in augmented(given, kind, batch=batch)])


@pytest.mark.parametrize("kind", PARAMETER.choices or ())
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_there_are_as_many_as_was_said_and_the_given_come_first(
    kind: str | None, batch: int
) -> None:
    given = images()
    found = all_of(given, kind, batch)
    assert len(found) == len(given) * enlargement(kind, (4, 4))
    torch.testing.assert_close(found[:3], given, rtol=0, atol=0)
    distinct = {tuple(image.flatten().tolist()) for image in found}
    assert len(distinct) == len(found)  # no copy is another's twin


def test_nothing_changes_unless_asked_for() -> None:
    assert PARAMETER.default is None and enlargement(None, (4, 6)) == 1
    assert len(all_of(images(), None)) == 3


def test_brightness_changes_by_a_tenth_and_stays_in_range() -> None:
    given = images()
    darker, brighter = torch.split(all_of(given, "brightness"), 3)[1:]
    torch.testing.assert_close(darker, given * 0.9)
    torch.testing.assert_close(brighter, (given * 1.1).clamp(max=1))
    assert given.max() * 1.1 > 1 >= brighter.max()


def test_turns_are_by_90_180_and_270_degrees() -> None:
    given = images()
    turned = torch.split(all_of(given, "quarter_turns"), 3)[1:]
    for quarters, found in enumerate(turned, 1):
        for _ in range(4 - quarters):
            found = found.rot90(1, (2, 3))
        torch.testing.assert_close(found, given)
    assert len(turned) == 3


def test_images_are_mirrored_left_to_right_and_upside_down() -> None:
    given = images()
    across, down = torch.split(all_of(given, "flips"), 3)[1:]
    torch.testing.assert_close(across, given[..., :, [3, 2, 1, 0]])
    torch.testing.assert_close(down, given[..., [3, 2, 1, 0], :])


def test_rectangles_are_turned_by_180_degrees_alone() -> None:
    with pytest.raises(Infeasible, match=f"{KEY} quarter_turns of images of 4 x 6 pixels, which "
                       "must be square; half_turn needs no square"):  # fmt: skip
        next(augmented(images(size=(4, 6)), "quarter_turns"))
    found = all_of(images(size=(4, 6)), "half_turn")
    torch.testing.assert_close(found[3:], images(size=(4, 6)).flip(-1, -2))


@pytest.mark.parametrize("kind", PARAMETER.choices or ())
def test_where_pixels_count_moves_with_them(kind: str | None) -> None:
    given = images()
    valid = given[:, 0] > 0.5
    given[:, :, :, :] = torch.where(valid[:, None], given, torch.zeros(()))
    for part, counted in augmented(given, kind, valid, batch=2):
        assert counted is not None and counted.dtype == torch.bool
        assert counted.shape == (len(part), 4, 4)
        torch.testing.assert_close(counted, part[:, 0] > 0)


def test_changes_are_made_one_batch_at_a_time() -> None:
    given = images(5)
    parts = augmented(given, "flips", batch=2)
    first, _ = next(parts)
    assert first.data_ptr() == given.data_ptr()  # a view: what was given is not copied
    assert [len(part) for part, _ in parts] == [2, 1, 2, 2, 1, 2, 2, 1]
