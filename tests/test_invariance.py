"""Changes of pictures, and what a fitted trial makes of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from final_parts import search_in
from torch import Tensor, nn
from typer.testing import CliRunner

import autosearch
from autosearch.cli.factory_checks import background, invariance
from autosearch.cli.show import recommend
from autosearch.contracts import Cost, Detector
from autosearch.data import ImageSet
from autosearch.errors import ConfigError, StudyError
from autosearch.metrics import Criterion, choose_threshold
from autosearch.report.factory_figures import invariance_bars
from autosearch.storage import StudyFolder
from autosearch.study import read_findings
from autosearch.study.changes import Change, changes_of
from autosearch.study.invariance import drawn, invariance_of
from autosearch.testing.images import image_set

SIDE = 16
THRESHOLD = choose_threshold([0.0, 1.0], np.array([False, True]))  # half way: 0.5
GEOMETRY = ["turn", "mirror", "shift"]


class Toy(Detector):
    """A detector that learns nothing."""

    def fit(self, train: ImageSet) -> None:
        """See `Detector.fit`."""

    def cost(self) -> Cost:
        raise NotImplementedError

    def module(self) -> nn.Module:
        raise NotImplementedError


class MeanOfAll(Toy):
    """Scores every pixel by the mean of the whole picture, which no turn and no mirror changes."""

    def anomaly_maps(self, images: Tensor) -> Tensor:
        mean = images.double().mean(dim=(1, 2, 3), keepdim=True)[:, 0]
        return mean.expand(len(images), *images.shape[2:]).float()


class Bright(Toy):
    """Scores a pixel by its mean over channels, wherever it lies."""

    def anomaly_maps(self, images: Tensor) -> Tensor:
        return images.mean(dim=1)


class Upper(Toy):
    """Scores a pixel by its mean over channels where it lies in the upper half."""

    def anomaly_maps(self, images: Tensor) -> Tensor:
        maps = images.mean(dim=1)
        maps[:, maps.shape[1] // 2 :] = 0
        return maps


def exact(normal: int = 4, anomalous: int = 4, side: int | tuple[int, int] = SIDE) -> ImageSet:
    """Pictures of 256ths: their sums are exact, in whatever order they are made."""
    images = image_set(side, normal, anomalous, seed=3)
    return replace(images, pixels=(images.pixels * 256).round() / np.float32(256))


def bright(normal: int = 4, anomalous: int = 4) -> ImageSet:
    """Dark noise; defects are white, and lie off every axis of symmetry."""
    images = image_set(SIDE, normal, anomalous, seed=5)
    pixels, masks = images.pixels * np.float32(0.3), np.zeros_like(images.masks)
    masks[:anomalous, 2:4, 3:6] = True
    pixels[np.broadcast_to(masks[:, None], pixels.shape)] = 1
    return replace(images, pixels=pixels, masks=masks)


def rows(detector: Detector, images: ImageSet) -> dict[str, dict]:
    found = invariance_of(detector, images, THRESHOLD, seed=1)
    return {row["name"]: row for row in found["changes"]}


def change(name: str, size: tuple[int, int] = (SIDE, SIDE)) -> Change:
    return next(one for one in changes_of(size)[0] if one.name == name)


class TestChanges:
    def test_the_last_two_axes_move_pixel_by_pixel(self) -> None:
        values = np.arange(2 * 5 * 5).reshape(2, 5, 5)
        last, sources = 4, {}
        sources["turned by 90°"] = lambda y, x: (x, last - y)
        sources["turned by 180°"] = lambda y, x: (last - y, last - x)
        sources["turned by 270°"] = lambda y, x: (last - x, y)
        sources["mirrored left-right"] = lambda y, x: (y, last - x)
        sources["mirrored up-down"] = lambda y, x: (last - y, x)
        sources["shifted by 5%"] = lambda y, x: (abs(y - 1), abs(x - 1))
        for name, source in sources.items():
            moved = change(name).moved
            assert moved is not None
            found = moved(values)
            for y in range(5):
                for x in range(5):
                    assert (found[:, y, x] == values[:, *source(y, x)]).all(), name

    def test_what_comes_in_from_beyond_counts_nowhere(self) -> None:
        images = image_set(20, 1, 2, seed=0)
        masks = np.zeros_like(images.masks)
        masks[0, :4, :4] = True
        masks[1, 18:, 18:] = True
        images = replace(images, masks=masks, regions=masks.astype(np.int32) * 7)
        found = change("shifted by 10%").pictures(images, torch.Generator())
        assert found.valid is not None and found.regions is not None
        expected = np.zeros((20, 20), dtype=bool)
        expected[2:, 2:] = True
        assert (found.valid == expected).all()
        # A defect at the edge is not drawn out, and one that has left the picture is none.
        assert found.masks[0].sum() == 16 and found.masks[0, 2:6, 2:6].all()
        assert not found.masks[1].any()
        assert (found.regions == found.masks * 7).all()

    def test_padding_is_moved_along(self) -> None:
        valid = np.ones((2, SIDE, SIDE), dtype=bool)
        valid[:, :3] = False
        images = replace(image_set(SIDE, 2, 0, seed=0), valid=valid)
        turned = change("turned by 90°").pictures(images, torch.Generator()).valid
        assert turned is not None and not turned[:, :, :3].any() and turned[:, :, 3:].all()

    def test_light_changes_as_the_table_says(self) -> None:
        images = image_set(SIDE, 3, 1, seed=2)
        every = {one.name: one for one in changes_of((SIDE, SIDE))[0] if one.moved is None}
        found = {
            name: one.pictures(images, torch.Generator().manual_seed(0)).pixels
            for name, one in every.items()
        }
        before = images.pixels
        np.testing.assert_allclose(found["brightness x 0.8"], before * 0.8, rtol=1e-6)
        np.testing.assert_allclose(found["brightness x 1.2"], (before * 1.2).clip(max=1), 1e-6)
        grey = (before * np.array([0.2989, 0.587, 0.114])[:, None, None]).sum(axis=1)
        mean = grey.mean(axis=(1, 2))[:, None, None, None]
        expected = (mean + 0.8 * (before - mean)).clip(0, 1)
        np.testing.assert_allclose(found["contrast x 0.8"], expected, atol=1e-5)
        off = {name: np.abs(pixels - before).mean() for name, pixels in found.items()}
        for family in (
            ["noise 0.01", "noise 0.02", "noise 0.05"],
            ["blur 0.5 px", "blur 1 px", "blur 2 px"],
            ["JPEG 90", "JPEG 70", "JPEG 40"],
        ):
            assert 0 < off[family[0]] < off[family[1]] < off[family[2]]
        assert (found["noise 0.02"] - before).std() == pytest.approx(0.02, rel=0.1)
        assert all(p.dtype == np.float32 and p.min() >= 0 and p.max() <= 1 for p in found.values())

    def test_quarter_turns_are_for_squares(self) -> None:
        wanted, left_out = changes_of((SIDE, SIDE + 4))
        assert [one.name for one in left_out] == ["turned by 90°", "turned by 270°"]
        assert "turned by 180°" in [one.name for one in wanted]
        assert not changes_of((SIDE, SIDE))[1]


class TestReport:
    def test_a_scorer_that_sees_no_turn_does_not_move_at_all(self) -> None:
        found = invariance_of(MeanOfAll(), exact(), THRESHOLD, seed=1)
        unmoved = [row for row in found["changes"] if row["family"] in ("turn", "mirror")]
        assert len(unmoved) == 5
        for row in unmoved:
            assert row["shift"] == 0 and row["shift_in_spreads"] == 0
            assert {**found["unchanged"], **row} == row, "figures are those without a change"
        assert all(row["shift"] != 0 for row in found["changes"] if row["family"] == "noise")

    def test_scores_shift_as_far_as_their_pictures_do(self) -> None:
        images = exact()
        scores = images.pixels[~images.labels].mean(axis=(1, 2, 3), dtype=np.float64)
        darker = rows(MeanOfAll(), images)["brightness x 0.8"]
        assert darker["shift"] == pytest.approx(-0.2 * scores.mean(), rel=1e-5)
        in_spreads = -0.2 * scores.mean() / scores.std(ddof=1)
        assert darker["shift_in_spreads"] == pytest.approx(in_spreads, rel=1e-4)
        # From 0.6 on average to 0.48: no longer an alarm at 0.5.
        assert darker["false_alarms"] == 0
        assert rows(MeanOfAll(), images)["turned by 90°"]["false_alarms"] == 1

    def test_masks_move_with_their_pictures(self) -> None:
        for name, row in rows(Bright(), bright()).items():
            if row["family"] in GEOMETRY:
                assert (row["rwap"], row["ap"], row["found"]) == (1, 1, 1), name

    def test_a_detector_that_looks_at_one_place_is_found_out(self) -> None:
        images = bright()
        found = rows(Upper(), images)
        assert found["mirrored left-right"]["rwap"] == 1
        assert found["mirrored up-down"]["rwap"] < 0.5
        assert found["mirrored up-down"]["found"] == 0
        before = invariance_of(Upper(), images, THRESHOLD, seed=1)["unchanged"]
        assert before["rwap"] == 1 and before["found"] == 1

    def test_what_is_not_defined_is_none(self) -> None:
        found = invariance_of(Bright(), exact(1, 0), THRESHOLD, seed=1)
        assert found["spread"] is None and found["unchanged"]["rwap"] is None
        assert found["unchanged"]["image_auroc"] is None
        json.dumps(found, allow_nan=False)

    def test_only_so_many_images_are_changed(self) -> None:
        images = image_set(SIDE, 7, 5, seed=0)
        chosen = drawn(images, 3, seed=4)
        assert chosen.labels.tolist() == [True] * 3 + [False] * 3
        assert chosen.paths == drawn(images, 3, seed=4).paths != drawn(images, 3, seed=5).paths
        assert drawn(images, 7, seed=4) is images

    def test_bars(self) -> None:
        report = {"trial": 3, **invariance_of(Bright(), bright(), THRESHOLD, seed=1)}
        figure = invariance_bars(report)
        assert [len(bar.x) for bar in figure.data] == [len(report["changes"])] * 3
        names = [row["name"] for row in report["changes"]]
        assert list(figure.data[2].y) == names
        assert list(figure.data[2].x) == [row["rwap"] for row in report["changes"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study with a test split of three normal and four anomalous images."""
    return search_in(tmp_path_factory.mktemp("made"))


def command(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(invariance)
    app.command()(background)
    app.command()(recommend)
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, Exception):
        raise done.exception
    return " ".join(done.output.split())


class TestStudy:
    def test_a_trial_is_checked_and_kept(self, made: StudyFolder) -> None:
        shown = command("invariance", made.path, "--trial", 0, "--images", 3)
        assert "Trial 0 under changes" in shown and "turned by 270°" in shown
        assert "3 normal and 3 anomalous images of the test split of 7, drawn" in shown
        assert "fitted on 10;" in shown  # all normal images but those of the test split
        report = read_findings(made, "invariance")["trial-0"]
        assert report["threshold_from"] == "validation" and report["size"] == [64, 64]
        study = autosearch.open_study(made.path)
        figures = study.evaluate([0], resamples=20)[0]
        again = study.invariance(0)
        assert again["threshold_from"] == "evaluate"
        assert again["threshold"] == report["threshold"] == figures["thresholds"]["image"]
        unchanged, tested = again["unchanged"], figures["metrics"]
        for name, other in {
            "rwap": "rwap", "ap": "ap", "image_auroc": "image_auroc",
            "found": "image_tpr_at_val", "false_alarms": "image_fpr_at_val",
        }.items():  # fmt: skip
            assert unchanged[name] == pytest.approx(tested[other]), name

    def test_several_trials_are_checked_as_one(self, made: StudyFolder) -> None:
        shown = command("invariance", made.path, "--ensemble", "0,1", "--images", 2)
        assert "Trials 0, 1 together under changes" in shown
        report = read_findings(made, "invariance")["ensemble-0+1"]
        assert report["trial"] is None and report["ensemble"] == [0, 1]
        study = autosearch.open_study(made.path)
        figures = study.evaluate((), ensemble=[0, 1], resamples=20)["0+1"]
        again = study.invariance(ensemble=[1, 0])
        assert again["threshold_from"] == "evaluate"
        assert again["threshold"] == report["threshold"] == figures["thresholds"]["image"]
        assert again["unchanged"]["rwap"] == pytest.approx(figures["metrics"]["rwap"])
        assert study.background(ensemble=[0, 1])["picture"] == "ensemble-0+1.png"
        with pytest.raises(ConfigError, match="none beside an ensemble"):
            study.invariance(0, ensemble=[0, 1])

    def test_thresholds_are_those_of_evaluation_and_by_any_rule(self, made: StudyFolder) -> None:
        study = autosearch.open_study(made.path)
        figures = study.evaluate([0], resamples=20)[0]
        assert study.thresholds(0).to_plain() == figures["thresholds"]
        most = study.thresholds(0, threshold=Criterion("sensitivity", min_sensitivity=1.0)).image
        assert most.tpr == 1 and most.rule == "sensitivity"

    def test_a_recommended_trial_comes_with_its_thresholds(self, made: StudyFolder) -> None:
        rule = ("--threshold-rule", "fpr", "--max-fpr", 0.25)
        shown = command("recommend", made.path, *rule)
        number = autosearch.open_study(made.path).recommend().trial.number
        assert "threshold image" in shown and "(fpr; validation TPR" in shown
        assert f"--trial {number} --threshold-rule fpr --max-fpr 0.25" in shown
        with pytest.raises(ConfigError, match="--threshold-rule"):
            command("recommend", made.path, "--max-fpr", 0.25)

    def test_scores_of_a_texture_have_no_outside(self, made: StudyFolder) -> None:
        shown = command("background", made.path, "--trial", 0)
        assert "No object stands out" in shown and "factory/background/trial-0.png" in shown
        assert read_findings(made, "background")["trial-0"]["foreground"] == 0
        picture = made.path / "factory" / "background" / "trial-0.png"
        assert picture.read_bytes().startswith(b"\x89PNG")

    def test_what_cannot_be_checked(self, made: StudyFolder, tmp_path: Path) -> None:
        study = autosearch.open_study(made.path)
        with pytest.raises(StudyError, match="no trial 99"):
            study.invariance(99)
        with pytest.raises(ConfigError, match="images: 0"):
            study.invariance(0, images=0)
        broken = StudyFolder(tmp_path)
        (tmp_path / "factory" / "invariance").mkdir(parents=True)
        (tmp_path / "factory" / "invariance" / "trial-1.json").write_text("[1]")
        with pytest.raises(StudyError, match="cannot be read"):
            read_findings(broken, "invariance")
