"""Images whose sides a network's strides do not divide."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from autosearch_runners.padded import PaddedDetector, at_stride
from torch import Tensor, nn

from autosearch.contracts import Cost, Detector, Runner, TrialContext, registry
from autosearch.data import ImageSet
from autosearch.errors import Infeasible
from autosearch.spec import parse_spec
from autosearch.testing.images import image_set


class Grey(nn.Module):
    """Grey values as maps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images.mean(dim=1)


class Whole(Detector):
    """Only takes images of whole cells of 8 pixels, and keeps what it was fitted on."""

    top_share = 0.5

    def __init__(self, context: TrialContext) -> None:
        self.size, self._module = context.image_size, Grey()
        assert not any(side % 8 for side in self.size)

    def fit(self, train: ImageSet) -> None:
        self.seen = train

    def fit_in_steps(self, train: ImageSet) -> Iterator[float]:
        self.fit(train)
        yield 0.5

    def anomaly_maps(self, images: Tensor) -> Tensor:
        assert tuple(images.shape[2:]) == self.size
        with torch.no_grad():
            found: Tensor = self._module(images)
        return found

    def figures(self) -> dict[str, float]:
        return {"half": 0.5}

    def artifacts(self) -> dict[str, bytes]:
        return {"a.txt": b"a"}

    def cost(self) -> Cost:
        return Cost(1, 2, 0, 1, 0)

    def module(self) -> nn.Module:
        return self._module


def context(size: tuple[int, int]) -> TrialContext:
    return TrialContext(0, "cpu", size)


def test_what_fits_is_left_as_it_is() -> None:
    """There is nothing in between."""
    assert isinstance(at_stride(Whole, context((16, 24)), 8), Whole)


def test_answers_are_of_the_image_alone() -> None:
    """Its pixels are where they were, in maps, in the graph, and in training."""
    found = at_stride(Whole, context((20, 26)), 8)
    assert isinstance(found, PaddedDetector) and found.top_share == 0.5
    images = torch.rand(2, 3, 20, 26)
    torch.testing.assert_close(found.anomaly_maps(images), images.mean(dim=1))
    with torch.no_grad():
        torch.testing.assert_close(found.module()(images), images.mean(dim=1))
    assert (found.figures(), found.artifacts()) == ({"half": 0.5}, {"a.txt": b"a"})
    assert found.cost() == Cost(1, 2, 0, 1, 0)
    assert found.memory(10) == 12 * 10 * 24 * 32


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_is_learnt_from_what_is_mirrored(masked: bool) -> None:
    """It does not count, nor does what did not count before."""
    train = image_set((20, 26), 2, 0, seed=0)
    if masked:
        valid = np.ones((len(train), 20, 26), dtype=bool)
        valid[:, :3] = False
        train = replace(train, valid=valid)
    inner: list[Whole] = []

    def make(own: TrialContext) -> Whole:
        inner.append(Whole(own))
        return inner[-1]

    assert list(at_stride(make, context((20, 26)), 8).fit_in_steps(train)) == [0.5]
    seen = inner[0].seen
    assert seen.pixels.shape == (2, 3, 24, 32) and seen.valid is not None
    np.testing.assert_array_equal(seen.pixels[:, :, :20, :26], train.pixels)
    np.testing.assert_array_equal(seen.pixels[:, :, 20], train.pixels[:, :, 18][..., :][
        ..., np.r_[0:26, 24:18:-1]])  # fmt: skip
    assert not seen.valid[:, 20:].any() and not seen.valid[:, :, 26:].any()
    assert seen.valid[:, 3:20, :26].all() and seen.valid[:, :3, :26].any() != masked


def test_far_too_small_images_are_infeasible() -> None:
    """Their mirror images do not fill a cell."""
    with pytest.raises(Infeasible, match="too small"):
        at_stride(Whole, context((4, 16)), 8)


SMALL = {"layers": "2", "epochs": 1, "batch": 2}
RUNNERS = {
    "csflow": {**SMALL, "blocks": 1, "hidden": 4},
    "fastflow": {**SMALL, "flow_steps": 1},
    "reverse_distillation": SMALL,
    "uniad": {**SMALL, "hidden": 16, "encoder_layers": 1, "decoder_layers": 1,
              "feedforward": 8, "neighbour_mask": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", RUNNERS)
def test_trained_runners_take_sides_of_any_length(name: str) -> None:
    """As the shapes of images come out that keep theirs, such as 136 x 120."""
    content = {
        "study": {"name": "test", "runner": name},
        "space": {"lr": [1e-3]},
        "objectives": ["gflops", "rwap"],
        "backbone": {"weights": "random"},
    }
    runner: Runner = registry.load_runner(name)(parse_spec(content))
    size = (68, 60)
    found = runner.build(runner.canonical(RUNNERS[name]), context(size))
    found.fit(image_set(size, 2, 0, seed=0))
    asked = torch.from_numpy(image_set(size, 2, 0, seed=1).pixels.copy())
    maps = found.anomaly_maps(asked)
    assert maps.shape == (2, *size) and maps.isfinite().all() and maps.std() > 0
    batch = torch.export.Dim("batch", min=1, max=8)
    graph = torch.export.export(found.module(), (asked,), dynamic_shapes=({0: batch},)).module()
    with torch.no_grad():
        torch.testing.assert_close(graph(asked[:1]), maps[:1], rtol=1e-4, atol=1e-4)
