"""Published banks on tokens of transformers are points of our space: slow oracles of three."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from autosearch_runners.bank.foreground import Foreground, first_component
from autosearch_runners.bank.parameters import canonical_bank
from scipy import ndimage
from token_parts import GRID, PATCH, SIZE, TOKEN, WIDTH, Tokens, fitted, pictures
from torch import Tensor

from autosearch.backbones import PatchFeatures
from autosearch.errors import Infeasible
from autosearch.graphs import onnx_bytes, onnx_run
from autosearch.spec import Params

TRAIN, ASKED = pictures(5, 0), pictures(3, 1)
GROUPS = ("block0", "block1")
SUPERADD: Params = {"fusion": "mean", "distance": "euclidean"}
RAD: Params = {
    "fusion": "mean",
    "metric": "cosine",
    "window": 1,
    "neighbour_images": 2,
    "likeness": "class_token",
}
DINO: Params = {"metric": "cosine", "foreground": "components", "foreground_threshold": 0.15}


def tokens_of(images: Tensor, extractor: Tokens) -> list[np.ndarray]:
    """``(N, P, C)`` of every block, in double precision."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (extractor.mean, extractor.std))
    return [
        m.flatten(2).transpose(1, 2).double().numpy() for m in extractor((images - mean) / std)
    ]


def class_tokens_of(images: Tensor, extractor: Tokens) -> np.ndarray:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (extractor.mean, extractor.std))
    return extractor.with_class_token((images - mean) / std)[1].double().numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def upsampled(scores: np.ndarray) -> np.ndarray:
    whole = torch.from_numpy(scores).view(-1, 1, *GRID)
    return F.interpolate(whole, SIZE, mode="bilinear", align_corners=False)[:, 0].numpy()


def same(found: Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-4 * expected.max())


def test_superadd_but_for_the_number_of_channels() -> None:
    """A bank a block, Euclidean distances by ``C``, each map resized, then the mean: ours by C."""
    extractor = Tokens()
    detector = fitted(SUPERADD, extractor, TRAIN)
    expected = np.zeros((3, *SIZE))
    for known, asked in zip(tokens_of(TRAIN, extractor), tokens_of(ASKED, extractor), strict=True):
        bank = known.reshape(-1, WIDTH)
        nearest = np.array(
            [
                [np.linalg.norm(bank - query, axis=1).min() / WIDTH for query in image]
                for image in asked
            ]
        )
        expected += upsampled(nearest) / 2
    same(detector.anomaly_maps(ASKED), WIDTH * expected)


def test_rad_but_for_a_factor_of_two() -> None:
    """``1 - cosine`` within windows of the images nearest by class token, mean over blocks."""
    extractor = Tokens()
    detector = fitted(RAD, extractor, TRAIN)
    expected = np.zeros((3, GRID[0] * GRID[1]))
    classes, theirs = (unit(class_tokens_of(some, extractor)) for some in (TRAIN, ASKED))
    for known, asked in zip(tokens_of(TRAIN, extractor), tokens_of(ASKED, extractor), strict=True):
        for image, queries in enumerate(unit(asked)):
            alike = np.argsort(-(classes @ theirs[image]))[:2]
            for place, query in enumerate(queries):
                row, column = divmod(place, GRID[1])
                near = [
                    y * GRID[1] + x
                    for y in range(max(0, row - 1), min(GRID[0], row + 2))
                    for x in range(max(0, column - 1), min(GRID[1], column + 2))
                ]
                rows = unit(known[alike][:, near].reshape(-1, WIDTH))
                expected[image, place] += (1 - rows @ query).min() / 2
    maps = upsampled(expected)
    same(detector.anomaly_maps(ASKED), 2 * maps)
    pooled = fitted({**RAD, "likeness": "pooled"}, extractor, TRAIN).anomaly_maps(ASKED)
    assert not torch.allclose(pooled, detector.anomaly_maps(ASKED)), "the class token counts"


def mask_of(tokens: np.ndarray, threshold: float) -> np.ndarray:
    """``(P,)`` bool by a decomposition and by morphology of a library."""
    centred = tokens - tokens.mean(0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    axis = axis * np.sign(axis @ tokens.mean(0))
    found = (centred @ axis > threshold).reshape(GRID)
    middle = found[
        int(0.2 * GRID[0]) : int(0.8 * GRID[0]), int(0.2 * GRID[1]) : int(0.8 * GRID[1])
    ]
    if middle.mean() <= 0.35:
        found = (-centred @ axis > threshold).reshape(GRID)
    square = np.ones((3, 3))
    found = ndimage.binary_dilation(found, square)
    found = ndimage.binary_dilation(found, square)
    return ndimage.binary_erosion(found, square, border_value=1).ravel()


class LastBlock(Tokens):
    """The second block alone, longer than tokens of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = self.feature_info[1:]

    def forward(self, images: Tensor) -> list[Tensor]:
        """See `FeatureExtractor.forward`."""
        return super().forward(images)[1:]


@pytest.mark.parametrize(("distance", "factor"), [("squared", 2), ("euclidean", 2)])
def test_anomalydino_but_for_a_factor_of_two(distance: str, factor: float) -> None:
    """Unit vectors of the object alone, ``1 - cosine`` as it computes, or Euclidean by two."""
    extractor = LastBlock()
    detector = fitted({**DINO, "distance": distance}, extractor, TRAIN)
    (known,), (asked,) = tokens_of(TRAIN, extractor), tokens_of(ASKED, extractor)
    bank = unit(np.concatenate([one[mask_of(one, 0.15)] for one in known]))
    expected = np.zeros(asked.shape[:2])
    for image, queries in enumerate(asked):
        there = mask_of(queries, 0.15)
        assert 0.2 < there.mean() < 0.8, "some is object, and some is not"
        for place in np.flatnonzero(there):
            cosine = (bank @ unit(queries[place])).max()
            expected[image, place] = (
                1 - cosine if distance == "squared" else (2 - 2 * cosine) ** 0.5 / 2
            )
    assert len(detector._stores[0] or ()) == len(bank)
    maps = upsampled(expected)
    same(detector.anomaly_maps(ASKED), factor * maps)
    assert (maps == 0).any() and np.isclose(maps.min(), detector.anomaly_maps(ASKED).min())
    answers = detector.answers(ASKED)
    assert torch.equal(detector.maps_of_answers(answers, ASKED), detector.anomaly_maps(ASKED))
    search = 2 * len(queries) * len(bank) * WIDTH
    object_alone = 2 * WIDTH * WIDTH * len(queries) + 6 * 2 * WIDTH**3
    assert detector.cost().search_flops == search + object_alone


def test_all_of_it_in_one_graph() -> None:
    detector = fitted({**RAD, **DINO, "distance": "euclidean"}, Tokens(), TRAIN)
    expected = detector.anomaly_maps(ASKED).numpy()
    run = onnx_run(onnx_bytes(detector.module(), SIZE), threads=1)
    for some in (slice(0, 1), slice(0, 3)):
        found = run(ASKED[some].numpy())[0]
        assert np.abs(found - expected[some]).max() <= 1e-4 * expected.max()
    assert (expected == 0).any()


class TestForeground:
    def test_the_component_is_that_of_a_decomposition(self) -> None:
        tokens = torch.from_numpy(tokens_of(ASKED, Tokens())[0]).float()
        for found, one in zip(first_component(tokens), tokens, strict=True):
            centred = one - one.mean(0)
            axis = torch.linalg.svd(centred, full_matrices=False)[2][0]
            expected = centred @ axis * torch.sign(axis @ one.mean(0))
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)

    def test_the_sign_follows_the_middle(self) -> None:
        # Less than 35 % of the middle lies above the mean, as the many at the border do.
        line, grid = torch.full((20, 20), 3.0), (20, 20)
        line[5:15, 5:15] = 0.0
        patches = line.flatten()[None, :, None] * torch.ones(4)
        mask = Foreground(grid, 0.5)(patches).view(grid)
        grown = torch.zeros(grid)
        grown[4:16, 4:16] = 1
        assert torch.equal(mask, grown), "dilated by one; nothing to close"
        assert Foreground(grid, 50)(patches).sum() == 0, "nothing is so far from the mean"
        line[5:15, 5:15], line[6:14, 6:14] = 3.0, 0.0
        patches = line.flatten()[None, :, None] * torch.ones(4)
        mask = Foreground(grid, 0.1)(patches).view(grid)
        assert mask[0, 0] == 1 and mask[9:11, 9:11].sum() == 0, "most of the middle is above"

    def test_holes_are_closed(self) -> None:
        line, grid = torch.zeros(20, 20), (20, 20)
        line[4:16, 4:16], line[7:11, 6:14] = 3.0, 0.0
        patches = line.flatten()[None, :, None] * torch.ones(4)
        mask = Foreground(grid, 0.5)(patches).view(grid)
        assert mask[3:17, 3:17].all() and mask.sum() == 14 * 14

    def test_images_that_are_all_the_same_have_no_object(self) -> None:
        flat = torch.full((1, *TRAIN.shape[1:]), 0.5)
        with pytest.raises(Infeasible, match=r"foreground_threshold 0\.15: no patch of any"):
            fitted(DINO, LastBlock(), flat)


class TestClassToken:
    def test_follows_every_patch(self) -> None:
        extractor = Tokens()
        features = PatchFeatures(extractor, (1, 1), class_token=True)
        found, plain = features(ASKED), PatchFeatures(extractor, (1, 1))(ASKED)
        assert features.channels == 2 * WIDTH and features.class_channels == TOKEN
        assert torch.equal(found[:, : 2 * WIDTH], plain)
        expected = torch.from_numpy(class_tokens_of(ASKED, extractor)).float()
        for row in range(GRID[0]):
            torch.testing.assert_close(found[:, 2 * WIDTH :, row, -1], expected)

    def test_of_a_backbone_without_one(self) -> None:
        extractor = Tokens()
        extractor.class_token = None
        with pytest.raises(Infeasible, match="the backbone has no class token"):
            fitted(RAD, extractor, TRAIN)


class TestCanonical:
    @pytest.mark.parametrize(
        "params",
        [
            {"likeness": "class_token"},
            {"foreground": "none", "foreground_threshold": 3.0},
            {"coreset_method": "thinning"},
            {"distance": "squared"},
        ],
    )
    def test_what_has_no_effect_is_dropped(self, params: Params) -> None:
        assert canonical_bank(params, GROUPS) == canonical_bank({}, GROUPS)
        assert canonical_bank({"fusion": "mean"}, GROUPS[:1]) == canonical_bank({}, GROUPS[:1])

    @pytest.mark.parametrize(
        ("params", "reason"),
        [
            (
                {"coreset_method": "thinning", "window": 1, "rows_per_place": 2},
                "thinning needs a bank without a window",
            ),
            ({**DINO, "image_score": "reweighted"}, "knows of no foreground"),
        ],
    )
    def test_what_does_not_go_together(self, params: Params, reason: str) -> None:
        with pytest.raises(Infeasible, match=reason):
            canonical_bank(params, GROUPS)

    def test_what_has_is_kept(self) -> None:
        kept = canonical_bank({**RAD, **DINO, "distance": "euclidean"}, GROUPS)
        expected = {"fusion": "mean", "likeness": "class_token", "distance": "euclidean"}
        expected |= {"foreground": "components", "block1.weight": 1.0}
        assert expected.items() <= kept.items() and kept["foreground_threshold"] == 0.15


def test_a_thinned_bank_has_as_many_rows_as_asked_for() -> None:
    params: Params = {**SUPERADD, "coreset_method": "thinning", "bank_rows": 57}
    detector = fitted(params, Tokens(), TRAIN)
    assert [len(store or ()) for store in detector._stores] == [57, 57]
    again = fitted(params, Tokens(), TRAIN).anomaly_maps(ASKED)
    assert torch.equal(again, detector.anomaly_maps(ASKED)), "the seed decides"
    whole = fitted(SUPERADD, Tokens(), TRAIN).anomaly_maps(ASKED)
    assert (detector.anomaly_maps(ASKED) >= whole - 1e-4).all(), "fewer rows lie no nearer"


def test_levels_scaled_alike_have_roots_of_their_own_too() -> None:
    """Weights are as of distances, not of their squares."""
    extractor = Tokens()
    levels: Params = {"fusion": "levels", "distance": "euclidean", "block1.weight": 0.0}
    alone = fitted(levels, extractor, TRAIN).anomaly_maps(ASKED)
    squared = fitted({**levels, "distance": "squared"}, extractor, TRAIN).anomaly_maps(ASKED)
    grid = alone[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    assert (
        torch.allclose(alone.amax((1, 2)) ** 2, squared.amax((1, 2)), rtol=0.3) and grid.min() >= 0
    )
