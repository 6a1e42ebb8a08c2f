"""Several detectors as one: closed forms, a slow oracle, and what is refused."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autosearch.contracts import ensemble
from autosearch.contracts.detector import Cost, Detector, TrialContext
from autosearch.contracts.ensemble import (
    EnsembleDetector,
    Member,
    Scale,
    give_scales,
    scales_of,
)
from autosearch.contracts.tiled import TiledDetector
from autosearch.data.records import NORMAL, ImageSet
from autosearch.data.tiles import TileGrid
from autosearch.errors import Infeasible
from autosearch.export.frozen import freeze

SIZE = (12, 16)


def images(*types: str, size: tuple[int, int] = SIZE, seed: int = 0) -> ImageSet:
    pixels = np.random.default_rng(seed).random((len(types), 3, *size), dtype=np.float32)
    names = tuple(f"{i}.png" for i in range(len(types)))
    masks = np.zeros((len(types), *size), dtype=bool)
    masks[[kind != NORMAL for kind in types], 2:5, 3:6] = True
    return ImageSet(pixels, masks, types, names, names).locked()


VALIDATION = images(NORMAL, "dent", NORMAL, NORMAL, seed=1)
TRAIN, ASKED = images(NORMAL), torch.from_numpy(images("a", "b", seed=2).pixels.copy())


class _Channels(nn.Module):
    """A weighted sum of the channels, and an offset."""

    def __init__(self, weights: tuple[float, float, float], offset: float) -> None:
        super().__init__()
        self.weights, self.offset = nn.Parameter(torch.tensor(weights), False), offset

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.einsum("nchw,c->nhw", pixels, self.weights) + self.offset


class Stub(Detector):
    """Maps that follow from nothing but the image; the bank is of as many bytes as images."""

    def __init__(self, weights: tuple[float, float, float], offset: float = 0.0) -> None:
        self.network, self.images, self.threads = _Channels(weights, offset), 0, 0

    def fit(self, train: ImageSet) -> None:
        self.images, self.threads = len(train), torch.get_num_threads()

    def anomaly_maps(self, images: Tensor) -> Tensor:
        return self.network(images)

    def memory(self, images: int) -> int:
        return 10 * images

    def artifacts(self) -> dict[str, bytes]:
        return {"curves.json": str(self.network.offset).encode()}

    def figures(self) -> dict[str, float]:
        return {"rows": float(self.images)}

    def cost(self) -> Cost:
        return Cost(1, 2, 3, 4, self.images)

    def module(self) -> nn.Module:
        return self.network


RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.2, 0.9)


def of(*detectors: Detector, validation: ImageSet | None = VALIDATION) -> EnsembleDetector:
    members = [Member(f"trial {number}", one) for number, one in enumerate(detectors)]
    return EnsembleDetector(members, validation)


def fitted(*detectors: Detector, validation: ImageSet | None = VALIDATION) -> EnsembleDetector:
    made = of(*detectors, validation=validation)
    made.fit(TRAIN)
    return made


def slow(detector: Detector, validation: ImageSet, asked: Tensor) -> np.ndarray:
    """A member's standardised map, pixel by pixel."""
    scores = []
    for i, kind in enumerate(validation.types):
        (found,) = detector.anomaly_maps(torch.tensor(validation.pixels[i : i + 1])).tolist()
        for y, row in enumerate(found):
            for x, value in enumerate(row):
                counts = validation.valid is None or validation.valid[i, y, x]
                if kind == NORMAL and counts:
                    scores.append(value)
    mean, deviation = statistics.fmean(scores), statistics.pstdev(scores)
    return (detector.anomaly_maps(asked).numpy() - mean) / deviation


class TestMaps:
    def test_of_affine_copies_are_the_standardised_map(self) -> None:
        copies = [Stub((a, 0.0, 0.0), b) for a, b in ((1.0, 0.0), (40.0, -7.0), (0.01, 3.0))]
        normal = VALIDATION.pixels[[0, 2, 3], 0]
        expected = (ASKED[:, 0].numpy() - normal.mean()) / normal.std()
        np.testing.assert_allclose(fitted(*copies).anomaly_maps(ASKED), expected, atol=1e-4)

    @pytest.mark.parametrize("at_once", [1, 400, 1 << 21])
    def test_are_those_of_a_slow_oracle(
        self, at_once: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ensemble, "_PIXELS", at_once)
        valid = np.random.default_rng(3).random(VALIDATION.masks.shape) < 0.6
        valid[2] = False  # An image of which nothing counts.
        validation = replace(VALIDATION, valid=valid)
        members = Stub(RED), Stub(BLUE, 5.0)
        expected = np.mean([slow(one, validation, ASKED) for one in members], axis=0)
        found = fitted(*members, validation=validation).anomaly_maps(ASKED)
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_pixels_that_count_may_be_marked_at_another_size(self) -> None:
        valid = np.ones(VALIDATION.masks.shape, dtype=bool)
        valid[:, :, 8:] = False
        small = fitted(Stub(RED), Stub(BLUE), validation=replace(VALIDATION, valid=valid))
        twice = valid.repeat(2, axis=1).repeat(2, axis=2)
        masks = np.zeros(twice.shape, dtype=bool)
        large = replace(VALIDATION, valid=twice, masks=masks)
        assert fitted(Stub(RED), Stub(BLUE), validation=large).scales == small.scales

    def test_module_gives_the_same_and_shares_nothing(self) -> None:
        network = Stub(RED)
        detector = fitted(network, network)
        module = detector.module()
        torch.testing.assert_close(module(ASKED), detector.anomaly_maps(ASKED))
        places = {tensor.data_ptr() for tensor in module.state_dict().values()}
        assert len(places) == 2 and network.network.weights.data_ptr() not in places

    def test_before_a_fit_there_are_none(self) -> None:
        for ask in (lambda d: d.anomaly_maps(ASKED), lambda d: d.module()):
            with pytest.raises(RuntimeError, match="nothing was fitted"):
                ask(of(Stub(RED), Stub(BLUE)))


def test_costs_and_memory_add_up() -> None:
    detector = fitted(Stub(RED), Stub(BLUE), Stub(RED, 1.0))
    assert detector.cost() == Cost(3, 6, 9, 12, 3)
    assert detector.memory(5) == 150


def test_what_members_tell_is_numbered() -> None:
    detector = fitted(Stub(RED, 1.0), Stub(BLUE, 2.0))
    assert detector.artifacts() == {"curves-00.json": b"1.0", "curves-01.json": b"2.0"}
    assert detector.figures() == {"rows-00": 1.0, "rows-01": 1.0}


def test_images_are_scored_as_by_the_first() -> None:
    first, second = Stub(RED), Stub(BLUE)
    first.top_share = 0.25
    assert of(first, second).top_share == 0.25
    assert of(second, first).top_share is None


def test_members_have_threads_of_their_own() -> None:
    before, stubs = torch.get_num_threads(), (Stub(RED), Stub(BLUE))
    counts = (before + 1, None)
    members = [Member("a", one, count) for one, count in zip(stubs, counts, strict=True)]
    EnsembleDetector(members, VALIDATION).fit(TRAIN)
    assert [one.threads for one in stubs] == [before + 1, before]
    assert torch.get_num_threads() == before


def test_scales_of_another_fit_are_kept() -> None:
    first, again = fitted(Stub(RED), Stub(BLUE)), of(Stub(RED), Stub(BLUE), validation=None)
    give_scales(again, scales_of(first))
    again.fit(VALIDATION)
    assert again.scales == first.scales and again.members[0].detector.images == 4
    torch.testing.assert_close(again.anomaly_maps(ASKED), first.anomaly_maps(ASKED))
    assert scales_of(Stub(RED)) == ()
    with pytest.raises(ValueError):
        give_scales(Stub(RED), scales_of(first))


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        (None, "none of their pixels counts"),
        (images("dent"), "none of their pixels counts"),
        (
            replace(VALIDATION, valid=np.zeros(VALIDATION.masks.shape, bool)),
            "none of their pixels",
        ),
    ],
)
def test_without_normal_pixels_there_are_no_scales(
    validation: ImageSet | None, message: str
) -> None:
    with pytest.raises(Infeasible, match=message):
        fitted(Stub(RED), Stub(BLUE), validation=validation)


@pytest.mark.parametrize("offset", [0.0, 0.1, -1234.567])
def test_a_member_that_scores_all_alike_is_named(offset: float) -> None:
    with pytest.raises(Infeasible, match="trial 1 scores all pixels of the normal validation"):
        fitted(Stub(RED), Stub((0.0, 0.0, 0.0), offset))


def test_one_is_no_ensemble() -> None:
    with pytest.raises(ValueError, match="an ensemble of 1"):
        of(Stub(RED))


class TestTiles:
    GRID = TileGrid.over((12, 16), 8, 0.25)

    def tiled(self, by_position: bool) -> TiledDetector:
        def make(context: TrialContext) -> Detector:
            return of(Stub(RED), Stub(BLUE), validation=context.validation)

        context = TrialContext(0, "cpu", SIZE, VALIDATION)
        return TiledDetector.built(self.GRID, by_position, make, context)

    def test_of_a_position_have_scales_of_their_own(self) -> None:
        detector = self.tiled(by_position=True)
        detector.fit(TRAIN)
        scales = scales_of(detector)
        assert len(scales) == len(self.GRID) and len(set(scales)) == len(self.GRID)
        (box, *_), normal = self.GRID.boxes, VALIDATION.pixels[[0, 2, 3], 0]
        # The tile of the anomalous image is normal as well where no defect lies.
        marked = VALIDATION.masks[1][box.slices].any()
        seen = normal if marked else VALIDATION.pixels[:, 0]
        tile = seen[:, *box.slices]
        assert scales[0][0] == pytest.approx(Scale(float(tile.mean()), float(tile.std())), 1e-4)

    def test_have_one_graph_that_is_all_of_the_ensemble(self) -> None:
        detector = self.tiled(by_position=False)
        detector.fit(TRAIN)
        frozen = freeze(detector, VALIDATION, ("onnx",), False, lambda text: None)
        assert max(frozen.parity["onnxruntime"].values()) < 1e-4
        assert list(frozen.files) == ["model.onnx"]

    @pytest.mark.parametrize("by_position", [False, True])
    def test_keep_scales_of_another_fit(self, by_position: bool) -> None:
        detector = self.tiled(by_position)
        detector.fit(TRAIN)
        again = self.tiled(by_position)
        give_scales(again, scales_of(detector))
        again.fit(VALIDATION)
        torch.testing.assert_close(again.anomaly_maps(ASKED), detector.anomaly_maps(ASKED))
