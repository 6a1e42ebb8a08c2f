"""The whole way through the front door, as the documents show it, on real images."""

import re
import signal
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import autosearch
from autosearch.contracts import Objective, registry
from autosearch.data import demo_root
from autosearch.errors import ConfigError, StudyError

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = {"dataset.image_size": 64, "backbone.weights": "random", "space.coreset_ratio": 0.25}


def shown(page: str, root: str, category: str) -> list[str]:
    """The code that a page shows, on other data and with fewer trials."""
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    changes = {
        '"/data/mvtec"': repr(root), '"screw"': repr(category), "trials=100": "trials=3",
        "trials=120": "trials=4", "trials=123": "trials=5", '"dataset.image_size": 224':
        '"dataset.image_size": 64, "backbone.weights": "bundled"',
        'resume(trials=4)': 'resume(trials=4, executor="local")',
        'resume(trials=5, ': 'resume(trials=5, executor="local", ',
        'trials=3,\n)': 'trials=3,\n    executor="local",\n)',
        'trials=3\n)': 'trials=3, executor="local"\n)',
    }  # fmt: skip
    for old, new in changes.items():
        blocks = [block.replace(old, new) for block in blocks]
    return blocks


def run_all(blocks: list[str]) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number}", "exec"), names)
    return names


def test_what_the_page_shows_runs_on_real_images(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = shown("docs/python.md", str(shared_data / "magnetic_tile"), "magnetic_tile_mini")
    names = run_all(blocks)
    printed = capsys.readouterr().out
    assert "5 of 5: {'gflops'" in printed and "of validation rwap" in printed
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert (tmp_path / "pareto.html").is_file() and (names["model"] / "model.onnx").is_file()
    assert len(names["study"].trials) == 5 and len(names["own"].front) >= 1
    assert names["answer"].map.shape == (480, 640)


def test_what_the_readme_shows_runs(
    small_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autosearch, "search", small_search := _smaller(autosearch.search))
    names = run_all(shown("README.md", str(small_dataset), "brick"))
    assert small_search.called and isinstance(names["predictor"], autosearch.Predictor)


class _smaller:
    """A search as asked for, with the smallest inputs."""

    def __init__(self, search) -> None:
        self.search, self.called = search, False

    def __call__(self, space, overrides, **options):
        self.called = True
        return self.search(space, {**overrides, **SMALL}, **options)


@pytest.fixture(scope="module")
def small_dataset() -> Path:
    """The built-in demo, as a folder of somebody's."""
    return demo_root()


@pytest.fixture(scope="module")
def study(small_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    given = {**SMALL, "dataset.root": small_dataset, "dataset.category": "brick"}
    results = tmp_path_factory.mktemp("results")
    return autosearch.search("autopatch", given, trials=6, results=results, executor="local")


@pytest.fixture(scope="module")
def model(study: autosearch.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "out"
    told: list[str] = []
    path = study.export(
        formats=["onnx"], out=out, progress=lambda update: told.append(update.text)
    )
    assert told[0] == f"recommended: {study.recommend()}"
    return path


class TestStudy:
    def test_says_what_there_is(self, study: autosearch.Study) -> None:
        assert study.counts["complete"] + study.counts["cached"] == len(study.trials) == 6
        assert study.budget == 6 and not study.stopped and "6 complete" in repr(study)
        assert list(study.objectives) == ["gflops", "rwap"]
        assert study.trial(3) == study.trials[3]
        assert [path.name for path in study.files(0)] == ["choice.npz", "maps.jpg"]
        again = autosearch.open_study(study.path)
        assert again.trials == study.trials and again.front == study.front

    def test_unknown_trials_and_studies(self, study: autosearch.Study, tmp_path: Path) -> None:
        for number in (6, -1):
            with pytest.raises(StudyError, match=f"no trial {number}; there are 6"):
                study.trial(number)
        with pytest.raises(StudyError, match="no study here"):
            autosearch.open_study(tmp_path)
        with pytest.raises(StudyError, match="this study exists"):
            autosearch.search("autopatch", SMALL, results=study.path.parent, executor="local")

    def test_frame(self, study: autosearch.Study) -> None:
        frame = study.to_frame()
        assert list(frame.index) == list(range(6)) and frame.index.name == "number"
        for record in study.trials:
            assert frame.loc[record.number, "rwap"] == record.values["rwap"]
            assert frame.loc[record.number, "params.width"] == record.params["width"]

    def test_figures(self, study: autosearch.Study) -> None:
        figure = study.figure("pareto")
        points = {tuple(p) for trace in figure.data for p in zip(trace.x, trace.y, strict=True)}
        values = {(r.values["gflops"], r.values["rwap"]) for r in study.trials}
        np.testing.assert_allclose(sorted(points), sorted(values), rtol=1e-5)
        assert list(figure.data[1].customdata) == [record.number for record in study.front]
        curve = study.figure("progress").data[0]
        assert list(curve.x) == [1, 2, 3, 4, 5, 6] and list(curve.y) == sorted(curve.y)
        assert study.figure("parallel").data[0].dimensions[-1].label == "rwap"
        other = study.figure("pareto", x="bank_mb", y="ap")
        assert other.layout.xaxis.title.text == "bank_mb (MB)"

    @pytest.mark.parametrize(
        ("kind", "options", "expected"),
        [
            ("pareta", {}, "did you mean 'pareto'"),
            ("pareto", {"x": "gflop"}, "figure.x: 'gflop' .* did you mean 'gflops'"),
            ("pareto", {"trial": 1}, "figure.trial: 1 .* an option of pareto: x, y"),
            ("importance", {}, "ten or more complete trials"),
            ("curves", {}, "figure.trial: None .* number of a trial"),
            ("curves", {"trial": 0}, "a trial that left curves"),
        ],
    )
    def test_figures_that_cannot_be_drawn(
        self, study: autosearch.Study, kind: str, options: dict, expected: str
    ) -> None:
        with pytest.raises(ConfigError, match=expected):
            study.figure(kind, **options)

    def test_the_threshold_that_is_drawn_is_that_of_export(self, study: autosearch.Study) -> None:
        line = study.figure("thresholds", trial=0).data[-1]
        assert line.x[0] == pytest.approx(study.thresholds(0).image.value, rel=1e-4)

    def test_evaluates_once_and_tells_how_far_it_is(self, study: autosearch.Study) -> None:
        told: list[autosearch.Update] = []
        first = study.evaluate([0, 0, 1], resamples=100, progress=told.append)
        assert list(first) == [0, 1] and study.tests == first
        parts = [update for update in told if update.stage == "evaluating"]
        assert [update.text for update in parts[:6]] == [
            "fit", "validation", "refit", "test", "intervals", "kept",
        ]  # fmt: skip
        done = [update.done for update in parts]
        assert done == sorted(done) and done[-1] == parts[-1].total
        told.clear()
        assert study.evaluate([1], resamples=100, progress=told.append) == {1: first[1]}
        assert [u.text for u in told if u.stage == "evaluating"] == ["known"]
        assert study.correlate("rwap", "ap").trials == 6


class TestRecommendation:
    def test_is_the_best_within_the_budget(self, study: autosearch.Study) -> None:
        scored = study.trials
        best = max(scored, key=lambda record: record.values["rwap"])
        found = study.recommend(rule="best")
        assert found.trial == best and "all 6 trials" in str(found)
        assert [r.values["rwap"] for r in found.runners_up] == sorted(
            (r.values["rwap"] for r in scored if r != best), reverse=True
        )[:3]
        limit = sorted(record.values["gflops"] for record in scored)[2]
        within = [record for record in scored if record.values["gflops"] <= limit]
        chosen = study.recommend({"gflops": limit}, rule="best")
        assert chosen.trial == max(within, key=lambda record: record.values["rwap"])
        assert chosen == study.recommend([f"gflops <= {limit!r}"], rule="best")
        assert str(chosen).startswith(f"trial {chosen.trial.number}: ")
        how = "best" if study.doubt is None else "highest, by chance,"
        assert f"{how} validation rwap of" in str(chosen)
        cheapest = study.recommend(prefer="gflops").trial
        assert cheapest.values["gflops"] == min(r.values["gflops"] for r in scored)

    def test_recommends_by_rules_and_says_how_sure_it_is(self, study: autosearch.Study) -> None:
        for rule in ("best", "pessimistic", "synthetic", "balanced", "ranks", "smooth"):
            found = study.recommend(rule=rule)
            assert found.rule == rule and found.trial in study.trials
            if found.doubt is None:
                assert found.sure is not None and 0 <= found.sure <= 1
                assert "% of 200 draws of the validation defects" in found.reasons[-1]
        floored = study.recommend(floor=True).trial
        assert floored.measured["ap"] >= study.trial(0).measured["ap"]
        sizes = [study.path.joinpath(f"trials/{n}/choice.npz").stat().st_size for n in range(6)]
        assert max(sizes) <= 64 << 10

    def test_bounds_on_what_is_maximised_are_lower_ones(self, study: autosearch.Study) -> None:
        limit = study.recommend().trial.values["rwap"]
        assert study.recommend({"rwap": limit}, prefer="gflops").trial.values["rwap"] >= limit

    @pytest.mark.parametrize(
        ("budget", "prefer", "expected"),
        [
            ({"gflops": 1e-9}, None, r"no trial keeps to gflops <= 1e-09; the least gflops is"),
            ({"gflop": 1}, None, "budget: 'gflop' .* did you mean 'gflops'"),
            (["gflops < 1"], None, "budget: 'gflops < 1' .* text such as"),
            ({}, "rwa", "prefer: 'rwa' .* did you mean 'rwap'"),
        ],
    )
    def test_says_what_is_wrong(
        self, study: autosearch.Study, budget: dict, prefer: str | None, expected: str
    ) -> None:
        with pytest.raises((ConfigError, StudyError), match=expected):
            study.recommend(budget, prefer)


class TestObjects:
    """Runners and objectives that are installed under no name."""

    SPACE: ClassVar = {
        "space": {"level3.patch_size": [1, 2, 3]},
        "objectives": ["one", "rwap"],
        "measures": ["two"],
        "dataset": {"image_size": 64},
        "backbone": {"weights": "random"},
    }

    @staticmethod
    def objectives() -> list[Objective]:
        kinds = (("one", "minimize"), ("two", "maximize"))
        return [
            Objective(name, way, "u", "score", lambda detector, scored: scored.maps.mean(), "mean")
            for name, way in kinds
        ]

    @pytest.mark.parametrize("executor", ["local", "ray"])
    def test_are_searched_shown_and_gone_on_with(
        self, small_dataset: Path, tmp_path: Path, executor: str
    ) -> None:
        class Mine(registry.load_runner("patchcore")):
            description = "mine"

        given = {"dataset.root": small_dataset, "dataset.category": "brick"}
        own = self.objectives()
        study = autosearch.search(
            self.SPACE, given, trials=2, name="own", results=tmp_path, executor=executor,
            runner=Mine, objectives=own,
        )  # fmt: skip
        assert study.spec.study.runner == "Mine" and len(study.front) >= 1
        assert all(r.values["one"] == r.measured["two"] for r in study.trials if r.values)
        # Whoever does not have them can look at the study, and not go on with it.
        bare = autosearch.open_study(study.path)
        assert bare.objectives["one"].unit == "u" and bare.front == study.front
        assert bare.report().is_file() and bare.recommend({"two": 0}).trial
        with pytest.raises(ConfigError, match=r"floor: True .* no configuration of start"):
            bare.recommend({"two": 0}, floor=True)
        with pytest.raises(ConfigError, match=r"objectives: 'one' .* an objective"):
            bare.resume(trials=3, executor="local")
        with pytest.raises(ConfigError, match=r"study\.runner: 'Mine' .* a runner"):
            autosearch.open_study(study.path, objectives=own).evaluate([0])
        full = autosearch.open_study(study.path, runner=Mine, objectives=own)
        assert full.evaluate([0], resamples=100)[0]["validation"]["reproduced"]


def test_a_search_outside_the_main_thread(small_dataset: Path, tmp_path: Path) -> None:
    given = {**SMALL, "dataset.root": small_dataset, "dataset.category": "brick"}
    found: list[autosearch.Study] = []

    def work() -> None:
        with pytest.raises(ConfigError, match=r"executor: 'ray' .* local"):
            autosearch.search("autopatch", given, trials=2, results=tmp_path, executor="ray")
        found.append(
            autosearch.search(
                "autopatch", given, trials=2, results=tmp_path, resume=True, executor="local"
            )
        )

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found[0].trials) == 2


def test_an_interrupt_ends_a_search_in_good_order(small_dataset: Path, tmp_path: Path) -> None:
    given = {**SMALL, "dataset.root": small_dataset, "dataset.category": "brick"}

    def interrupt(update: autosearch.Update) -> None:
        if update.stage == "trials" and update.done == 2:
            signal.raise_signal(signal.SIGINT)

    study = autosearch.search(
        "autopatch", given, trials=50, results=tmp_path, executor="local", progress=interrupt
    )
    assert study.stopped and 2 <= len([r for r in study.trials if r.values]) < 50
    study.resume(trials=4, executor="local")
    assert not study.stopped and sum(study.counts.values()) >= 4


def test_listings() -> None:
    assert {"autopatch", "patchcore", "glass", "synth4seg"} <= autosearch.runners().keys()
    assert autosearch.spaces()["autopatch"].is_file() and "rwap" in autosearch.objectives()


def test_check_data(small_dataset: Path) -> None:
    assert autosearch.check_data(small_dataset, "brick").usable
    asked = {"validation.real_per_type": 2, "dataset.image_size": 32}
    assert autosearch.check_data(str(small_dataset), "brick", asked).usable
    with pytest.raises(ConfigError, match=r"dataset\.sied"):
        autosearch.check_data(small_dataset, "brick", ["sied=3"])


class TestPredictor:
    def test_paths_and_arrays_agree(self, model: Path, small_dataset: Path) -> None:
        predictor = autosearch.Predictor(model)
        paths = sorted((small_dataset / "brick" / "test").glob("*/*.png"))[:3]
        arrays = [np.asarray(_opened(path)) for path in paths]
        by_path, by_array = predictor(paths, batch=2), predictor(arrays)
        for one, other, array in zip(by_path, by_array, arrays, strict=True):
            assert one.score == pytest.approx(other.score, rel=1e-5)
            assert one.map.shape == one.mask.shape == array.shape[:2]
            np.testing.assert_allclose(one.map, other.map, rtol=1e-3, atol=1e-5 * one.score)
            limit = predictor.model.pixel_threshold.value
            np.testing.assert_array_equal(one.mask, one.map >= limit)
            assert one.anomalous == (one.score >= predictor.model.image_threshold.value)

    def test_what_is_no_image_is_refused(self, model: Path) -> None:
        predictor = autosearch.Predictor(model)
        for wrong in (np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8), np.zeros(3, np.uint8)):
            with pytest.raises(ConfigError, match="expected uint8 pictures"):
                predictor([wrong])
        with pytest.raises(ConfigError, match="a list of images"):
            predictor("photo.png")
        assert predictor([]) == []

    def test_writes_what_the_command_writes(
        self, model: Path, small_dataset: Path, tmp_path: Path
    ) -> None:
        told = []
        folder = str(small_dataset / "brick" / "test")
        answers = autosearch.Predictor(model).write(
            [folder], tmp_path, 4, lambda answer, done, total: told.append((done, total))
        )
        assert told == [(i + 1, len(answers)) for i in range(len(answers))]
        assert (tmp_path / "scores.csv").read_text().count("\n") == len(answers) + 1


def _opened(path: Path):
    from PIL import Image

    return Image.open(path).convert("RGB")
