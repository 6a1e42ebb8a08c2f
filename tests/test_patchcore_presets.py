"""PatchCore as it was published: images weighed, a cap on images, presets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from autosearch_runners.bank.reweighting import ReweightedRows
from autosearch_runners.patchcore import PRESETS, PatchCoreRunner
from bank_parts import (
    ALL,
    ASKED,
    CORNER,
    KNOWN,
    QUERIES,
    SIZE,
    TRAIN,
    Cells,
    built,
    fitted,
    upsampled,
    valid_but,
)
from test_bank_rows import runner
from torch import Tensor

from autosearch.contracts import registry, shared_tensor
from autosearch.errors import Infeasible
from autosearch.graphs import (
    largest_difference,
    onnx_bytes,
    onnx_run,
    openvino_files,
    openvino_run,
    round_to_half,
)
from autosearch.spec import Params, parse_spec

WEIGHED: Params = {"image_score": "reweighted", "reweighting_neighbours": 4}


def slow_weight(patches: Tensor, bank: Tensor, around: int, counted: list[int]) -> float:
    """Equation 7 for one image, distance by distance."""

    def apart(one: Tensor, other: Tensor) -> float:
        return math.dist(one.tolist(), other.tolist())

    nearest = {p: min(range(len(bank)), key=lambda m: apart(patches[p], bank[m])) for p in counted}
    farthest = max(counted, key=lambda p: apart(patches[p], bank[nearest[p]]))
    star = bank[nearest[farthest]]
    rows = sorted(range(len(bank)), key=lambda m: apart(star, bank[m]))[:around]
    own = apart(patches[farthest], star)
    return 1 - math.exp(own) / sum(math.exp(apart(patches[farthest], bank[m])) for m in rows)


class TestWeight:
    @pytest.mark.parametrize("around", [2, 5])
    def test_is_the_slow_oracle(self, around: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("autosearch_runners.bank.scores._EXPORT_BLOCK", 7)
        random = torch.Generator().manual_seed(3)
        bank, patches = (torch.randn(n, 3, generator=random) for n in (23, 30))
        patches, counted = patches.view(5, 6, 3), [0, 2, 3, 5]
        rows = ReweightedRows(bank, 1, around, torch.tensor(counted), root=False)
        plain = torch.cdist(patches, bank).amin(2).square()
        expected = torch.tensor([slow_weight(own, bank, around, counted) for own in patches])
        assert len(rows.bank) == 4 and (expected - (1 - 1 / around)).min() > 1e-3
        assert torch.allclose(rows.factors(patches, plain)[:, 0], expected, atol=1e-5)
        assert torch.allclose(rows(patches), plain * expected[:, None], atol=1e-5)

    def test_by_hand(self) -> None:
        """From (0, 3) to its nearest row it is 1, to the others around that 2 and sqrt(10)."""
        bank = torch.tensor([[0.0, 2], [0, 1], [1, 0], [50, 50]])
        patches = torch.tensor([[[0.0, 3], [0, 2.1]]])
        rows = ReweightedRows(bank, 1, 3, torch.arange(2), root=True)
        exps = [math.exp(distance) for distance in (1, 2, math.sqrt(10))]
        weight = 1 - exps[0] / sum(exps)
        expected = torch.tensor([[1.0, 0.01]]) * weight**2
        assert torch.allclose(rows(patches), expected, atol=1e-5)

    def test_stays_finite_far_away(self) -> None:
        bank, far = torch.arange(6.0)[:, None], torch.tensor([[[500.0]], [[0.0]]])
        rows = ReweightedRows(bank, 1, 2, torch.arange(1), root=False)
        last = (1 - 1 / (1 + math.e)) * 495**2
        assert torch.allclose(rows(far), torch.tensor([[last], [0.0]]), rtol=1e-5)


class TestDetector:
    def test_maps_of_each_image_are_scaled(self) -> None:
        params, cells = {**WEIGHED, "bank_rows": 60}, list(range(KNOWN.shape[1]))
        detector: Any = fitted(params)
        known, asked, queries = detector._stores[0].patches(), ASKED[:2], QUERIES[:2]
        plain = torch.cdist(queries, known).amin(2)
        weights = torch.tensor([slow_weight(one, known, 4, cells) for one in queries])
        expected = upsampled(plain.square() * weights[:, None])
        found = detector.anomaly_maps(asked)
        assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))
        for distance in ("root", "euclidean"):
            rooted, unweighed = (
                fitted({**given, "distance": distance}).anomaly_maps(asked).flatten(1).amax(1)
                for given in (params, {"bank_rows": 60})
            )
            close = torch.allclose(rooted / unweighed, weights, rtol=1e-2)
            assert close, "the score of the image is equation 7's"

    def test_what_counts_in_no_image_weighs_none(self) -> None:
        corner = fitted(WEIGHED, valid_but((ALL, CORNER, CORNER)))
        places: Any = corner._mixture.places
        assert len(places) < KNOWN.shape[1]
        assert torch.equal(corner._stores[0]._weighing.counted, places)  # type: ignore[union-attr]

    def test_cost_and_memory_are_told(self) -> None:
        plain, weighed = fitted({}), fitted(WEIGHED)
        more = weighed.cost().search_flops - plain.cost().search_flops
        assert more == 2 * 2 * KNOWN.flatten(0, 1).numel()
        assert weighed.memory(11) > plain.memory(11)

    @pytest.mark.parametrize(
        "more", [{"window": 1}, {"neighbour_images": 5}, {"fusion": "levels"}]
    )
    def test_several_banks_are_refused(self, more: Params) -> None:
        with pytest.raises(Infeasible, match="image_score reweighted needs one bank"):
            runner().canonical({**WEIGHED, **more})

    def test_a_bank_must_hold_the_neighbours(self) -> None:
        with pytest.raises(Infeasible, match="reweighting_neighbours 4 of a bank of 3 patches"):
            fitted({**WEIGHED, "bank_rows": 3})

    def test_graphs_give_the_same_maps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also in half precision, which leaves the detector as it is."""
        monkeypatch.setattr("autosearch_runners.bank.scores._EXPORT_BLOCK", 40)
        detector: Any = built({**WEIGHED, "bank_rows": 90, "distance": "root", "smoothing": 1.5})
        monkeypatch.setattr(detector, "_prepare", lambda images: Cells())
        detector.fit(TRAIN)
        asked = torch.cat([ASKED[:2], shared_tensor(TRAIN.pixels)[:1]])
        exact, module = detector.anomaly_maps(asked).numpy(), detector.module().eval()
        first = onnx_bytes(module, SIZE)
        round_to_half(module)
        with torch.no_grad():
            rounded = module(asked).numpy()
        assert 0 < largest_difference(exact, rounded) < 0.01
        assert np.array_equal(detector.anomaly_maps(asked).numpy(), exact)
        runs = [
            (onnx_run(first, threads=1), exact),
            (openvino_run(*openvino_files(first), 1), exact),
            (onnx_run(onnx_bytes(module, SIZE, half=True), threads=1), rounded),
        ]
        for run, expected in runs:
            for count in (1, 3):
                maps, _ = run(asked[:count].numpy())
                assert largest_difference(expected[:count], maps) < 1e-4


class TestTrainImages:
    def test_are_distinct_and_the_same_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names: list[tuple[str, ...]] = []
        detector = "autosearch_runners.memory_bank"
        from autosearch_runners.bank.rows import drawn_images

        def watched(*given: Any) -> Any:
            names.append(drawn_images(*given).paths)
            return drawn_images(*given)

        monkeypatch.setattr(f"{detector}.drawn_images", watched)
        banks = [fitted({"train_images": 5}, seed=seed).cost().bank_bytes for seed in (1, 1, 2)]
        assert banks == [4 * KNOWN[:5].numel()] * 3
        assert names[0] == names[1] != names[2]
        assert all(len(set(drawn)) == 5 and set(drawn) <= set(TRAIN.paths) for drawn in names)

    def test_of_fewer_are_all(self) -> None:
        asked = fitted({}).anomaly_maps(ASKED)
        for most in (len(TRAIN), 2000):
            assert torch.equal(fitted({"train_images": most}).anomaly_maps(ASKED), asked)

    def test_bound_the_memory(self) -> None:
        plain, capped = fitted({}), fitted({"train_images": 2000})
        assert capped.memory(2000) == plain.memory(2000) == capped.memory(50_000)


def made(space: dict[str, Any]) -> PatchCoreRunner:
    content = {
        "study": {"name": "test", "runner": "patchcore"},
        "space": space,
        "objectives": ["rwap"],
        "backbone": {"weights": "random"},
    }
    found = registry.load_runner("patchcore")(parse_spec(content))
    assert isinstance(found, PatchCoreRunner)
    return found


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_stand_for_their_table(self, name: str) -> None:
        published = made({"preset": [name]})
        found, table = published.canonical({"preset": name}), PRESETS[name]
        assert "preset" not in found
        assert found == published.canonical(table) == published.canonical(found)
        extracted = {k: v for k, v in table.items() if k in found}
        assert extracted == {k: v for k, v in found.items() if k in table}
        assert set(found) == set(table)
        assert (found["backbone"], found.get("train_images")) == (
            "wide_resnet50_2", 2000 if name == "miad" else None
        )  # fmt: skip

    def test_what_is_named_goes_first(self) -> None:
        small = {"preset": "original", "backbone": "tf_efficientnet_lite0", "smoothing": 0.0}
        found = runner().canonical({**small, "coreset_ratio": 0.01})
        assert found["backbone"] == "tf_efficientnet_lite0" and found["coreset_ratio"] == 0.01
        assert "smoothing" not in found and found["reweighting_neighbours"] == 9

    def test_none_changes_nothing(self) -> None:
        assert runner().canonical({"preset": None}) == runner().canonical({})
        assert not {"image_score", "train_images"} & set(runner().canonical({}))

    def test_their_backbones_are_loaded(self) -> None:
        both = {"preset": [None, "miad"]}
        usual, published = "tf_efficientnet_lite0", "wide_resnet50_2"
        assert set(made(both)._weights) == {usual, published}
        sometimes = {"choice": [usual], "when": {"preset": [None]}}
        assert set(made({**both, "backbone": sometimes})._weights) == {usual, published}
        assert set(made({**both, "backbone": [usual]})._weights) == {usual}

    def test_score_images(self) -> None:
        params = {"preset": "miad", "backbone": "tf_efficientnet_lite0", "train_images": 6}
        maps = fitted(params).anomaly_maps(ASKED)
        assert maps.shape == (len(ASKED), *SIZE) and bool(np.isfinite(maps.numpy()).all())
