"""Detectors of tiles that are asked for whole images."""

import pickle
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from autosearch_runners.glass.runner import GlassRunner
from autosearch_runners.patchcore import PatchCoreRunner
from autosearch_runners.synth4seg.runner import Synth4SegRunner
from outside_runners import MeanImageRunner
from synth4seg_parts import EQUAL, QUICK, image_set as stained, spec_of as synth4seg_spec
from tiled_parts import slow_weights

from autosearch.contracts.detector import Detector, Runner, TrialContext
from autosearch.contracts.tiled import TiledDetector
from autosearch.data.records import NORMAL, ImageSet
from autosearch.data.tiles import TileGrid
from autosearch.errors import Infeasible
from autosearch.export.folder import ExportedModel
from autosearch.spec.reading import parse_spec
from autosearch.spec.space import Params

CANVAS, SIDE = (56, 80), 32
GRID = TileGrid.over(CANVAS, SIDE, 0.25)
PAIR = TileGrid.over((32, 48), SIDE, 0.25)
BANK: Params = {"level1.extract": True, "level2.extract": False, "level3.extract": False}
GLASS: Params = {"embed_dim": 16, "disc_hidden": 8, "epochs": 3, "ascent_steps": 1, "batch": 3}


def noise(count: int, seed: int, canvas: tuple[int, int] = CANVAS) -> ImageSet:
    pixels = np.random.default_rng(seed).random((count, 3, *canvas), dtype=np.float32)
    names = tuple(f"{i}.png" for i in range(count))
    masks = np.zeros((count, *canvas), dtype=bool)
    return ImageSet(pixels, masks, (NORMAL,) * count, names, names).locked()


TRAIN, ASKED = noise(3, 0), torch.from_numpy(noise(2, 1).pixels.copy())


def made(runner: type[Runner], name: str, space: dict[str, object]) -> Runner:
    study = {"name": "test", "runner": name}
    told = {"study": study, "space": space, "objectives": ["gflops", "rwap"]}
    return runner(parse_spec({**told, "backbone": {"weights": "random"}}))


@pytest.fixture(scope="module")
def banks() -> Runner:
    return made(PatchCoreRunner, "patchcore", {"num_neighbors": [1, 2]})


@pytest.fixture(scope="module")
def glass() -> Runner:
    return made(GlassRunner, "glass", {"lr": [1e-4, 1e-3]})


def tiled(
    runner: Runner,
    params: Params,
    by_position: bool = False,
    grid: TileGrid = GRID,
    validation: ImageSet | None = None,
) -> TiledDetector:
    context = TrialContext(0, "cpu", grid.canvas, validation)
    make = partial(runner.build, runner.canonical(params))
    return TiledDetector.built(grid, by_position, make, context)


class TestMaps:
    @pytest.mark.parametrize("by_position", [False, True])
    def test_are_those_of_a_slow_oracle(self, banks: Runner, by_position: bool) -> None:
        detector = tiled(banks, BANK, by_position)
        detector.fit(TRAIN)
        context, expected = TrialContext(0, "cpu", (SIDE, SIDE)), np.zeros((2, *CANVAS))
        for weights, box in zip(slow_weights(GRID), GRID.boxes, strict=True):
            alone = banks.build(banks.canonical(BANK), context)
            seen = [box] if by_position else GRID.boxes
            pixels = np.concatenate([TRAIN.pixels[:, :, *place.slices] for place in seen])
            masks = np.zeros((len(pixels), SIDE, SIDE), dtype=bool)
            names = ("x",) * len(pixels)
            alone.fit(ImageSet(pixels, masks, (NORMAL,) * len(pixels), names, names))
            for image, whole in zip(ASKED, expected, strict=True):
                (values,) = alone.anomaly_maps(image[None, :, *box.slices].contiguous())
                whole[box.slices] += weights[box.slices] * values.numpy()
        found = detector.anomaly_maps(ASKED)
        assert found.shape == (2, *CANVAS) and found.device.type == "cpu"
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())

    def test_middles_of_what_knows_no_place_are_those_of_the_whole_also_when_exported(
        self,
    ) -> None:
        grid = TileGrid.over(CANVAS, SIDE, 0.25, "middle")
        alone: Any = SimpleNamespace(
            anomaly_maps=lambda images: images.square().sum(1), top_share=None
        )
        expected = alone.anomaly_maps(ASKED)
        assert torch.equal(TiledDetector(grid, [alone]).anomaly_maps(ASKED), expected)
        read = TileGrid.from_plain(grid.to_plain())
        model: Any = SimpleNamespace(tiles=read, runs=(), top_share=None)
        model.run = lambda tiles: (alone.anomaly_maps(torch.from_numpy(tiles)).numpy(), None)
        maps, scores = ExportedModel.answers(model, list(ASKED.numpy()), 3)
        np.testing.assert_array_equal(maps, expected.numpy())
        np.testing.assert_array_equal(scores, maps.max((1, 2)))

    def test_of_detectors_that_know_their_place_are_those_of_the_whole(self) -> None:
        # A mean image of tiles at one place is part of the mean image of the whole.
        runner = MeanImageRunner()
        whole = runner.build(runner.canonical({}), TrialContext(0, "cpu", CANVAS))
        by_position, shared = tiled(runner, {}, True), tiled(runner, {})
        for detector in (whole, by_position, shared):
            detector.fit(TRAIN)
        expected = whole.anomaly_maps(ASKED)
        torch.testing.assert_close(by_position.anomaly_maps(ASKED), expected)
        assert not torch.allclose(shared.anomaly_maps(ASKED), expected, atol=1e-3)

    def test_leave_out_what_does_not_count(self, banks: Runner) -> None:
        valid = np.ones(TRAIN.masks.shape, dtype=bool)
        valid[:, :, 40:] = False
        pixels = TRAIN.pixels.copy()
        pixels[:, :, :, 40:] = 0
        detector = tiled(banks, BANK)
        detector.fit(replace(TRAIN, pixels=pixels, valid=valid))
        learnt = tiled(banks, BANK)
        learnt.fit(replace(TRAIN, pixels=pixels))
        black = torch.zeros(1, 3, *CANVAS)
        assert detector.anomaly_maps(black).mean() > 2 * learnt.anomaly_maps(black).mean()

    def test_travel_to_workers(self, banks: Runner) -> None:
        detector = tiled(banks, BANK, True)
        detector.fit(TRAIN)
        again = pickle.loads(pickle.dumps(detector))
        assert torch.equal(again.anomaly_maps(ASKED), detector.anomaly_maps(ASKED))


class TestParts:
    @pytest.mark.parametrize(("by_position", "parts"), [(False, 1), (True, 6)])
    def test_cost_what_all_tiles_do(self, banks: Runner, by_position: bool, parts: int) -> None:
        detector = tiled(banks, BANK, by_position)
        alone = detector.parts[0].cost()
        before = detector.cost()
        assert len(detector.parts) == parts and len(GRID) == 6
        assert (before.macs, before.flops) == (6 * alone.macs, 6 * alone.flops)
        assert before.parameters == parts * alone.parameters
        assert before.search_flops == before.bank_bytes == 0
        detector.fit(TRAIN)
        fitted = [part.cost() for part in detector.parts]
        cost = detector.cost()
        assert cost.bank_bytes == sum(part.bank_bytes for part in fitted)
        assert cost.search_flops == 6 // parts * sum(part.search_flops for part in fitted)

    def test_have_modules_of_a_tile(self, banks: Runner) -> None:
        shared, by_position = tiled(banks, BANK), tiled(banks, BANK, True)
        for detector in (shared, by_position):
            detector.fit(TRAIN)
        tile = ASKED[:, :, :SIDE, :SIDE].contiguous()
        with torch.no_grad():
            maps = shared.module()(tile)
        torch.testing.assert_close(maps, shared.parts[0].anomaly_maps(tile), rtol=1e-3, atol=1e-5)
        with pytest.raises(ValueError, match="6 positions, each with a module of its own"):
            by_position.module()

    def test_are_one_or_as_many_as_tiles(self, banks: Runner) -> None:
        with pytest.raises(ValueError, match="2 detectors of 6 tiles"):
            TiledDetector(GRID, tiled(banks, BANK, True).parts[:2])

    def test_that_cannot_be_built_are_told_by_their_size(self, banks: Runner) -> None:
        few: Params = {**BANK, "coreset_ratio": 0.01, "num_neighbors": 50}
        told = r"in tiles of 32 px \(dataset\.tiling\): num_neighbors 50 of a bank of"
        with pytest.raises(Infeasible, match=told):
            tiled(banks, few).fit(TRAIN)

        def refused(context: TrialContext) -> Detector:
            raise Infeasible(f"{context.image_size} is too small")

        with pytest.raises(Infeasible, match=r"dataset\.tiling\): \(32, 32\) is too small"):
            TiledDetector.built(GRID, False, refused, TrialContext(0, "cpu", CANVAS))


class TestTraining:
    def test_goes_on_at_all_positions_together(self, glass: Runner) -> None:
        train, asked = noise(3, 0, PAIR.canvas), torch.from_numpy(noise(1, 1, PAIR.canvas).pixels)
        fractions, maps = [0.0], []
        detector = tiled(glass, GLASS, True, PAIR)
        for fraction in detector.fit_in_steps(train):
            fractions.append(fraction)
            maps.append(detector.anomaly_maps(asked))
        assert fractions == sorted(set(fractions)) and len(fractions) > 2 and fractions[-1] < 1
        assert all(found.isfinite().all() for found in maps)
        assert not torch.equal(maps[0], maps[-1])
        again = tiled(glass, GLASS, True, PAIR)
        again.fit(train)
        assert torch.equal(again.anomaly_maps(asked), detector.anomaly_maps(asked))
        assert detector.figures().keys() == detector.parts[0].figures().keys()
        assert detector.artifacts().keys() == {
            f"{name.partition('.')[0]}-{number:02}.{name.partition('.')[2]}"
            for number in range(2)
            for name in detector.parts[0].artifacts()
        }

    @pytest.mark.parametrize("by_position", [False, True])
    def test_selects_on_tiles_of_validation(self, by_position: bool) -> None:
        val, contexts, runner = stained(1, 1, seed=1, side=48), [], MeanImageRunner()
        grid = TileGrid.over((48, 48), SIDE, 0.25)

        def make(context: TrialContext) -> Detector:
            contexts.append(context)
            return runner.build({"power": 2}, context)

        TiledDetector.built(grid, by_position, make, TrialContext(3, "cpu", (48, 48), val))
        assert {(context.seed, context.image_size) for context in contexts} == {(3, (SIDE, SIDE))}
        sets = [context.validation for context in contexts]
        assert [len(tiles) for tiles in sets] == ([2] * 4 if by_position else [8])
        for number, box in enumerate(grid.boxes):
            tiles = sets[number] if by_position else sets[0]
            place = 0 if by_position else number
            np.testing.assert_array_equal(tiles.masks[place], val.masks[0][box.slices])
            np.testing.assert_array_equal(tiles.pixels[place], val.pixels[0][:, *box.slices])

    def test_learns_from_defects_on_tiles(self) -> None:
        runner = Synth4SegRunner(synth4seg_spec())
        train, val = stained(2, 2, seed=0, side=48), stained(2, 1, seed=1, side=48)
        grid = TileGrid.over((48, 48), SIDE, 0.25)
        detector = tiled(runner, QUICK | EQUAL, grid=grid, validation=val)
        detector.fit(train)
        maps = detector.anomaly_maps(torch.from_numpy(val.pixels.copy()))
        assert maps.shape == (3, 48, 48) and maps.min() >= 0 and maps.max() <= 1 + 1e-6
        assert "curves.json" in detector.artifacts()
        assert detector.figures() == detector.parts[0].figures()
