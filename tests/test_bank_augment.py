"""Normal images that fill a bank once more, changed."""

from dataclasses import replace

import bank_parts
import numpy as np
import pytest
import torch
from autosearch_runners.bank.augmentation import (
    KEY,
    PARAMETER,
    all_valid,
    augmented,
    enlargement,
)

from autosearch.errors import Infeasible
from autosearch.testing.images import image_set


def images(count: int = 3, size: tuple[int, int] = (4, 4)) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def all_of(given: torch.Tensor, kind: str | None) -> torch.Tensor:
    return torch.cat(list(augmented(given, kind, "cpu")))


@pytest.mark.parametrize("kind", PARAMETER.choices or ())
@pytest.mark.parametrize("count", [1, 3, 9])
def test_there_are_as_many_as_was_said_and_the_given_come_first(
    kind: str | None, count: int
) -> None:
    given = images(count)
    found = all_of(given, kind)
    assert len(found) == count * enlargement(kind, (4, 4))
    torch.testing.assert_close(found[:count], given, rtol=0, atol=0)
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
        next(augmented(images(size=(4, 6)), "quarter_turns", "cpu"))
    found = all_of(images(size=(4, 6)), "half_turn")
    torch.testing.assert_close(found[3:], images(size=(4, 6)).flip(-1, -2))


@pytest.mark.parametrize("kind", PARAMETER.choices or ())
def test_where_pixels_count_moves_with_them(kind: str | None) -> None:
    given = images()
    valid = given[:, 0] > 0.5
    found = all_of(torch.where(valid[:, None], given, torch.zeros(())), kind)
    counted = all_valid(valid.numpy(), kind)
    np.testing.assert_array_equal(counted, found[:, 0].numpy() > 0)


def test_changes_are_made_when_they_are_asked_for() -> None:
    given = images(5)
    parts = augmented(given, "flips", "cpu")
    first = next(parts)
    assert first.data_ptr() == given.data_ptr()  # a view: what was given is not copied
    assert len(first) + sum(map(len, parts)) == 15


@pytest.mark.parametrize("kind", ["brightness", "half_turn", "flips"])
@pytest.mark.parametrize("partly", [False, True], ids=["whole", "partly"])
@pytest.mark.parametrize("params", [{}, {"window": 1}, {"coreset_ratio": 0.3}], ids=str)
def test_a_bank_is_that_of_all_images_given_at_once(
    kind: str, partly: bool, params: dict[str, object]
) -> None:
    train, (height, width) = image_set(bank_parts.SIZE, 4, 0, 1), bank_parts.SIZE
    if partly:
        valid = np.ones(train.masks.shape, dtype=bool)
        valid[:, : height // 2, : width // 2] = False
        train = replace(train, valid=valid)
    every = torch.cat(list(augmented(torch.from_numpy(train.pixels.copy()), kind, "cpu")))
    times = enlargement(kind, bank_parts.SIZE)
    whole = replace(
        train,
        pixels=every.numpy(),
        masks=np.tile(train.masks, (times, 1, 1)),
        types=train.types * times,
        paths=train.paths * times,
        groups=train.groups * times,
        valid=None if train.valid is None else all_valid(train.valid, kind),
    )
    asked = torch.from_numpy(image_set(bank_parts.SIZE, 2, 0, 2).pixels.copy())
    maps = [
        bank_parts.fitted({**params, KEY: chosen}, images).anomaly_maps(asked)
        for chosen, images in ((kind, train), (None, whole))
    ]
    torch.testing.assert_close(*maps, rtol=0, atol=0)


def test_rectangles_cannot_be_turned_by_90_degrees_into_a_bank() -> None:
    with pytest.raises(Infeasible, match="must be square"):
        bank_parts.fitted({KEY: "quarter_turns"})


def test_what_is_made_of_an_image_is_held_out_with_it() -> None:
    """Or else the usual distance of a level would be that of an image to itself."""
    train = image_set(bank_parts.SIZE, 11, 0, 1)
    asked = torch.from_numpy(image_set(bank_parts.SIZE, 2, 0, 2).pixels.copy())
    params = {"fusion": "levels", "level2.extract": True, "level3.extract": True}
    plain, brighter = (
        bank_parts.fitted({**params, KEY: kind}, train) for kind in (None, "brightness")
    )
    ratio = brighter.anomaly_maps(asked).mean() / plain.anomaly_maps(asked).mean()
    assert 0.3 < ratio < 3
