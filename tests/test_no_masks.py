"""Datasets in which nobody said which pixels are anomalous, from the folder to a prediction."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dataset_parts import checked, loaded, notes, photo, refusal, sound_dataset, spec
from final_parts import SIDE
from no_masks_parts import SPACE, search, write

from autosearch.contracts.objectives import TABLE, Scored
from autosearch.data.index import Index, Sample
from autosearch.data.load import load_search_data, load_test_set
from autosearch.data.records import NORMAL
from autosearch.data.splits import real_per_type, settled, split_index
from autosearch.errors import ConfigError, DataError
from autosearch.metrics import bootstrap
from autosearch.metrics.ranking import Ranking, auroc, average_precision, best_f1
from autosearch.metrics.truth import Truth
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import DatasetSpec, StudySpec
from autosearch.study.calibration import thresholds_of
from autosearch.study.inputs import load_inputs


def sample(name: str, kind: str, marked: bool = False, split: str | None = None) -> Sample:
    masks = (Path("/d", f"{name}_mask"),) if marked else ()
    return Sample(Path("/d", name), masks, kind, split, name)  # type: ignore[arg-type]


def index(*samples: Sample) -> Index:
    normal = [sample(f"n{i}", NORMAL) for i in range(9)]
    return Index(Path("/d"), "c", tuple(sorted((*normal, *samples), key=lambda s: s.path)))


def chosen(found: Index, **keys: object) -> list[str]:
    val = split_index(found, DatasetSpec.model_validate(keys)).val
    return [one.path.name for one in val if not one.normal]


class TestReading:
    def test_an_image_without_mask_counts_and_its_pixels_do_not(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        shutil.rmtree(base / "ground_truth")
        val = loaded(base).val
        unmarked = val.labels
        assert unmarked.sum() == 1 and not val.masks.any()
        np.testing.assert_array_equal(val.marked, ~unmarked)
        assert val.counted is not None and not val.counted[unmarked].any()
        assert val.counted[~unmarked].all()
        assert checked(base).usable and notes(base) == []

    def test_some_without_are_told_on_one_line(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        photo(base / "test/dent/0.png", 50)
        for name in ("000", "002"):
            (base / f"ground_truth/hole/{name}_mask.png").unlink()
        (line,) = notes(base)
        assert line == (
            "3 files: each has no mask (1 dent + 2 hole) (first part/test/dent/0.png); its pixels "
            "take no part in pixel figures; add ground_truth/… to count them"
        )
        val = loaded(base).val
        assert {path for path in val.paths if "good" not in path} == {
            "part/test/dent/0.png",
            "part/test/hole/001.png",
        }
        told = load_test_set(spec(base.parent))[1]["notes"]
        assert isinstance(told, list) and told[0].startswith("2 files: each has no mask (2 hole)")

    def test_masks_under_other_names_are_told(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        (base / "ground_truth/hole").rename(base / "ground_truth/holes")
        (line,) = notes(base)
        assert line.startswith("3 files: each is a mask of no image, while anomalous images have")

    def test_a_type_that_means_normal_stays_an_error(self, tmp_path: Path) -> None:
        base = sound_dataset(tmp_path / "part")
        photo(base / "test/ok/0.png", 50)
        assert refusal(base).remedy.startswith("name the type good if ok images are normal")

    def test_a_csv_needs_no_column_for_masks(self, tmp_path: Path) -> None:
        write(tmp_path / "part", hole=4)
        rows = ["path,label"]
        for path in sorted((tmp_path / "part").rglob("*.png")):
            rows.append(f"{path.relative_to(tmp_path)},{int(path.parent.name == 'hole')}")
        (tmp_path / "rows.csv").write_text("\n".join(rows))
        asked = DatasetSpec(root=str(tmp_path / "rows.csv"), category="rows", image_size=32)
        val = load_search_data(asked).val
        assert val.labels.sum() == (~val.marked).sum() == 1


class TestSplits:
    def test_marked_images_of_a_type_come_first(self) -> None:
        found = index(sample("a0", "a"), sample("a1", "a", marked=True), sample("b0", "b"))
        assert chosen(found) == ["a1", "b0"]

    @pytest.mark.parametrize("marked", [False, True])
    def test_of_images_alike_the_first_come_first(self, marked: bool) -> None:
        found = index(*(sample(f"a{i}", "a", marked) for i in range(4)))
        assert chosen(found, validation={"real_per_type": 2}) == ["a0", "a1"]

    def test_without_masks_a_third_of_every_type(self) -> None:
        counts = {"a": 7, "b": 3, "c": 2, "d": 1}
        found = index(*(sample(f"{k}{i}", k) for k, n in counts.items() for i in range(n)))
        assert real_per_type(found, DatasetSpec()) == {"a": 2, "b": 1, "c": 1, "d": 1}
        assert chosen(found) == ["a0", "a1", "b0", "c0", "d0"]

    def test_images_of_a_stated_split_are_no_part_of_the_third(self) -> None:
        stated = [sample(f"a{i}", "a", split="test") for i in range(6)]
        found = index(*stated, *(sample(f"a{i}", "a") for i in range(6, 9)))
        assert chosen(found) == ["a6"]

    def test_with_masks_one_of_every_type(self) -> None:
        found = index(*(sample(f"a{i}", "a", marked=True) for i in range(9)))
        assert settled(found, DatasetSpec()).validation.real_per_type == 1
        assert chosen(found) == ["a0"]

    def test_test_skip_is_held_against_the_largest_third(self) -> None:
        found = index(*(sample(f"a{i}", "a") for i in range(9)))
        assert chosen(found, test_skip=3) == ["a0", "a1", "a2"]
        with pytest.raises(ConfigError, match=r"test_skip: 2 .*real_per_type \(3\)"):
            chosen(found, test_skip=2)

    def test_good_images_alone_are_validated_by_synthetic_ones(self) -> None:
        asked = settled(index(), DatasetSpec())
        assert asked.validation.real_per_type == 0
        assert asked.validation.synthetic is not None
        assert asked.validation.synthetic.kind == "both"
        assert settled(index(), asked) == asked
        own = DatasetSpec.model_validate({"validation": {"synthetic": {"kind": "cutpaste"}}})
        assert settled(index(), own).validation.synthetic == own.validation.synthetic

    def test_masks_whose_images_are_missing_are_not_nothing(self) -> None:
        found = replace(index(), orphan_masks=(Path("/d/x_mask.png"),))
        with pytest.raises(DataError, match="no anomalous image"):
            split_index(found, DatasetSpec())


class TestMetrics:
    def drawn(self) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray]:
        """Maps, masks, types, and what counts: the last anomalous image is unmarked."""
        draw = np.random.default_rng(0)
        masks = np.zeros((5, 12, 12), dtype=bool)
        masks[0, 2:6, 2:5] = masks[1, 1:3, 1:9] = True
        maps = draw.random(masks.shape).astype(np.float32) + masks
        counted = np.ones(masks.shape, dtype=bool)
        counted[2] = False
        return maps, masks, ("a", "b", "c", NORMAL, NORMAL), counted

    def test_an_unmarked_type_changes_no_pixel_figure(self) -> None:
        maps, masks, types, counted = self.drawn()
        truth = Truth.from_masks(masks, types, counted=counted)
        known = np.array([0, 1, 3, 4])
        alone = Truth.from_masks(masks[known], tuple(types[i] for i in known))
        found, expected = Ranking.from_maps(maps, truth), Ranking.from_maps(maps[known], alone)
        assert found.rwap() == expected.rwap() and found.aupro() == expected.aupro()
        copies = np.ones((1, 5))
        whole = bootstrap.Histograms.of(maps, truth, types).metrics(copies, 0.01)
        assert whole["rwap"][0] == pytest.approx(expected.rwap(), rel=1e-9)
        assert whole["ap"][0] == pytest.approx(expected.ap(), rel=1e-9)

    def test_best_f1_of_images_is_that_of_all_thresholds(self) -> None:
        draw = np.random.default_rng(1)
        scores = draw.integers(0, 6, 40).astype(float)
        labels = draw.random(40) < 0.4
        every = {t: 2 * (labels & (scores >= t)).sum() / (labels.sum() + (scores >= t).sum())
                 for t in np.unique(scores)}  # fmt: skip
        found = best_f1(scores, labels)
        assert found.f1 == pytest.approx(max(every.values()))
        assert found.threshold == max(t for t in every if every[t] == max(every.values()))
        assert np.isnan(best_f1(scores, np.zeros(40, dtype=bool)).f1)

    def test_resampled_ap_of_images_is_exact(self) -> None:
        draw = np.random.default_rng(2)
        scores, labels = draw.integers(0, 9, 20).astype(float), draw.random(20) < 0.5
        copies = draw.integers(0, 3, (6, 20)).astype(float)
        found = bootstrap.image_ap(scores, labels, copies)
        expected = [average_precision(scores, labels, one) for one in copies]
        np.testing.assert_allclose(found, expected)

    def test_objectives_of_images_and_of_made_anomalies(self) -> None:
        maps, masks, types, _ = self.drawn()
        made = np.array([False, True, False, False, False])
        scored = Scored(maps, Truth.from_masks(masks, types), {}, synthetic=made)
        measured = {name: TABLE[name].measure(None, scored) for name in TABLE  # type: ignore
                    if name.startswith(("image_", "rwap_s", "rwap_r", "ap_s"))}  # fmt: skip
        highest, labels = maps.max(axis=(1, 2)), np.array([True] * 3 + [False] * 2)
        assert measured["image_auroc"] == auroc(highest, labels)
        assert measured["image_ap"] == average_precision(highest, labels)
        assert measured["image_f1"] == best_f1(highest, labels).f1
        for kind, known in {"real": [0, 2, 3, 4], "synthetic": [1, 3, 4]}.items():
            truth = Truth.from_masks(masks[known], [types[i] for i in known])
            ranking = Ranking.from_maps(maps[known], truth)
            assert measured[f"rwap_{kind}"] == pytest.approx(ranking.rwap())
        assert measured["ap_synthetic"] == pytest.approx(ranking.ap())

    def test_without_marked_pixels_the_thresholds_are_one(self) -> None:
        maps, masks, types, counted = self.drawn()
        unmarked = Truth.from_masks(
            np.zeros_like(masks), types, counted=np.array([False] * 3 + [True] * 2)[:, None, None]
            & counted,
        )  # fmt: skip
        found = thresholds_of(maps, unmarked)
        assert found.pixel == found.image and not found.marked
        assert "threshold of images" in found.to_plain()["pixel_is"]
        marked = thresholds_of(maps, Truth.from_masks(masks, types))
        assert marked.pixel != marked.image and "pixel_is" not in marked.to_plain()
        pixels = marked.pixel.reached
        assert pixels.tp + pixels.fp + pixels.fn + pixels.tn == masks.size


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "key", "name"),
        [
            ({"objectives": ["gflops", "rwap"]}, "objectives", "rwap"),
            ({"measures": ["aupro"]}, "measures", "aupro"),
            ({"constraints": ["f1 >= 0.5"]}, "constraints", "f1"),
        ],
    )
    def test_pixel_figures_are_refused_before_a_trial(
        self, tmp_path: Path, keys: dict[str, object], key: str, name: str
    ) -> None:
        write(tmp_path / "data" / "part", hole=3)
        with pytest.raises(ConfigError) as caught:
            search(tmp_path, **keys)
        assert str(caught.value) == (
            f"{key}: {name!r} is not allowed; expected image_auroc, image_ap or image_f1, since "
            "no anomalous validation image of data/part has a mask; or let synthetic anomalies "
            "give masks: --set dataset.validation.synthetic.kind=both"
        )
        assert not (tmp_path / "results/study/trials").exists()

    @pytest.mark.parametrize(
        ("name", "synthetic", "words"),
        [
            ("rwap_synthetic", None, "no synthetic anomaly; --set"),
            ("ap_synthetic", None, "no synthetic anomaly; --set"),
            ("rwap_real", None, "no real anomalous validation image of data/part has a mask"),
            ("rwap_real", "perlin", "no real anomalous validation image of data/part has a mask"),
            ("rwap_synthetic", "perlin", None),
            ("rwap", "cutpaste", None),
        ],
    )
    def test_figures_of_anomalies_that_are_not_there(
        self, tmp_path: Path, name: str, synthetic: str | None, words: str | None
    ) -> None:
        write(tmp_path / "data" / "part", hole=3)
        asked = _spec(tmp_path, [name], {"kind": synthetic} if synthetic else None)
        if words is None:
            assert load_inputs(asked).data.val.synthetic.any()
            return
        with pytest.raises(ConfigError) as caught:
            load_inputs(asked)
        assert words in str(caught.value) and f"{name!r} is not allowed" in str(caught.value)

    def test_no_real_anomaly_at_all(self, tmp_path: Path) -> None:
        write(tmp_path / "data" / "part")
        with pytest.raises(ConfigError, match=r"'rwap_real'.*validation holds no real anomaly"):
            load_inputs(_spec(tmp_path, ["rwap_real"]))


def _spec(base: Path, objectives: list[str], synthetic: object = None) -> StudySpec:
    dataset = {"root": str(base / "data"), "category": "part", "image_size": SIDE,
               "validation": {"synthetic": synthetic}}  # fmt: skip
    return parse_spec({**SPACE, "objectives": objectives, "dataset": dataset})


def test_a_runner_that_learns_from_defects_sees_marked_ones_alone(tmp_path: Path) -> None:
    base = sound_dataset(tmp_path / "part")
    for i in (3, 4, 5):
        photo(base / f"test/hole/{i:03}.png", 60 + i)
    dataset = {"root": str(tmp_path), "category": "part", "image_size": 32}
    asked = {
        "study": {"name": "study", "runner": "synth4seg"},
        "space": {"epochs": 1},
        "objectives": ["iou_half"],
        "backbone": {"weights": "random"},
        "dataset": {**dataset, "labelled": {"train": 0.5, "val": 0.3}},
    }
    inputs = load_inputs(parse_spec(asked))
    whole = load_search_data(inputs.spec.dataset).train
    assert (whole.labels & ~whole.marked).any()
    train = inputs.data.train
    assert train.labels.any() and train.masks[train.labels].any(axis=(1, 2)).all()
    assert inputs.data.info["counts"]["train"] == {  # type: ignore[index]
        "good": int((~train.labels).sum()),
        "hole": int(train.labels.sum()),
    }
