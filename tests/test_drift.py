"""Scores of new images against those of normal validation images."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from model_parts import SIDE, write_model
from PIL import Image
from scipy.stats import ks_2samp

from autosearch.cli import predict as predict_cli
from autosearch.export import Predictor
from autosearch.export.folder import load_model
from autosearch.graphs import ModelError
from autosearch.metrics import drift_of
from autosearch.metrics.drift import bin_edges, stability_index


def normal(count: int, seed: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1, count)


class TestDrift:
    def test_index_by_hand_and_by_loops(self) -> None:
        assert stability_index([5, 5], [5, 5]) == 0
        # Shares of 1/4 and 3/4 against 3/4 and 1/4, after half a score was added to each bin.
        assert stability_index([0.5, 2.5], [2.5, 0.5]) == pytest.approx(math.log(3))
        rng = np.random.default_rng(0)
        old, new = rng.integers(0, 20, (2, 6, 10))
        slow = []
        for before, after in zip(old, new, strict=True):
            total = 0.0
            for i in range(10):
                p = (before[i] + 0.5) / (before.sum() + 5)
                q = (after[i] + 0.5) / (after.sum() + 5)
                total += (q - p) * math.log(q / p)
            slow.append(total)
        np.testing.assert_allclose(stability_index(old, new), slow)

    def test_bins_hold_equally_many(self) -> None:
        values = normal(200, 0)
        edges = bin_edges(values)
        assert len(edges) == 9
        counts = np.histogram(values, [-np.inf, *edges, np.inf])[0]
        assert counts.tolist() == [20] * 10
        assert len(bin_edges(normal(12, 0))) == 1
        assert len(bin_edges(np.zeros(50))) == 1

    def test_the_same_distribution_is_no_drift(self) -> None:
        alarms, indices = 0, []
        for seed in range(100):
            found = drift_of(normal(40, seed), normal(60, 1000 + seed), resamples=200)
            alarms += bool(found.found)
            indices.append(found.psi)
        # Chance alone makes the plain index 9 (1/40 + 1/60) = 0.38 on average.
        assert alarms <= 3 and np.mean(indices) < 0.12

    def test_a_shift_is_found_and_said(self) -> None:
        old, new = normal(60, 0), normal(80, 1, mean=1.5)
        found = drift_of(old, new)
        tested = ks_2samp(old, new)
        assert (found.ks, found.p) == pytest.approx((tested.statistic, tested.pvalue))
        assert found.found and found.psi is not None and found.interval is not None
        assert 0.5 < found.interval[0] < found.psi < found.interval[1]
        assert "scores have drifted: they are far higher than they were" in found.text
        assert f"Kolmogorov-Smirnov {tested.statistic:.3f}" in found.text
        assert "far lower" in drift_of(new, old).text
        assert found == drift_of(old, new)

    def test_a_sure_but_slight_difference_is_none(self) -> None:
        found = drift_of(normal(20000, 0), normal(20000, 1, mean=0.08))
        assert found.p is not None and found.p < 1e-4 and found.found is False

    def test_too_few_images_say_nothing(self) -> None:
        found = drift_of(normal(40, 0), normal(9, 1, mean=5))
        assert found.found is None and found.ks is None
        assert found.text == (
            "too few images to say whether scores have shifted: 9 new ones and 40 of the "
            "baseline, 10 of each are needed"
        )
        with pytest.raises(ValueError, match="NaN"):
            drift_of([math.nan] * 20, [0.0] * 20)


class TestPredict:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        """Its scores are brightness; normal images have one of about 0.3."""
        scores = sorted((0.3 + 0.02 * normal(30, 0)).tolist())
        return write_model(tmp_path / "model", baseline={"of": "x", "scores": scores})

    @staticmethod
    def pictures(folder: Path, level: float, count: int = 20) -> Path:
        folder.mkdir()
        for i, value in enumerate(level + 0.02 * normal(count, 7)):
            grey = np.full((SIDE, SIDE, 3), round(255 * value), dtype=np.uint8)
            Image.fromarray(grey).save(folder / f"{i}.png")
        return folder

    @staticmethod
    def run(model: Path, folder: Path, out: Path, **options: bool) -> int:
        try:
            predict_cli.predict(model, out, [str(folder)], 8, **options)
        except typer.Exit as end:
            return int(end.exit_code)
        return 0

    def test_the_same_light(self, model: Path, tmp_path: Path, capsys: Any) -> None:
        images = self.pictures(tmp_path / "in", 0.3)
        assert self.run(model, images, tmp_path / "out", fail_on_drift=True) == 0
        assert "no drift of scores" in capsys.readouterr().out
        found = json.loads((tmp_path / "out" / "drift.json").read_text())
        assert found["found"] is False and found["images"] == 20 and found["baseline"] == 30

    def test_another_light(self, model: Path, tmp_path: Path, capsys: Any) -> None:
        images = self.pictures(tmp_path / "in", 0.4)
        assert self.run(model, images, tmp_path / "a") == 0
        assert "drift" not in capsys.readouterr().out
        assert not (tmp_path / "a" / "drift.json").exists()
        assert self.run(model, images, tmp_path / "b", baseline=True) == 0
        said = capsys.readouterr().out
        assert "scores have drifted: they are far higher" in said and "Look whether light" in said
        assert "0 of 20 images are called anomalous" in said
        assert self.run(model, images, tmp_path / "c", fail_on_drift=True) == 3
        assert (tmp_path / "c" / "scores.json").is_file()

    def test_a_few_images(self, model: Path, tmp_path: Path, capsys: Any) -> None:
        images = self.pictures(tmp_path / "in", 0.9, count=3)
        assert self.run(model, images, tmp_path / "out", fail_on_drift=True) == 0
        assert "too few images" in capsys.readouterr().out
        assert json.loads((tmp_path / "out" / "drift.json").read_text())["found"] is None

    def test_a_model_without_a_baseline_is_told_before_it_is_asked(self, tmp_path: Path) -> None:
        old = write_model(tmp_path / "old")
        assert load_model(old).baseline is None
        images = self.pictures(tmp_path / "in", 0.3, count=1)
        with pytest.raises(ModelError, match="export the trial again, or leave out --baseline"):
            self.run(old, images, tmp_path / "out", baseline=True)
        assert not (tmp_path / "out").exists()
        with pytest.raises(ModelError, match="without scores of normal images"):
            Predictor(old).drift([0.1] * 20)

    @pytest.mark.parametrize("scores", [None, ["x"], [math.inf], 3])
    def test_a_baseline_that_is_none(self, tmp_path: Path, scores: object) -> None:
        plain = {"scores": scores if scores != [math.inf] else ["inf"]}
        broken = write_model(tmp_path / "broken", baseline=plain)
        with pytest.raises(ModelError, match="lacks what prediction needs"):
            load_model(broken)
