"""Estimates of trials: what is trained on and measured on, kept, gone on with, and said."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import autosearch
from autosearch import api
from autosearch.cli import app
from autosearch.contracts import Outcome, Status, TrialRecord
from autosearch.data import ImageSet, demo_root, load_pool
from autosearch.errors import ConfigError, StudyError
from autosearch.metrics import Criterion, choose_threshold, confusion, over_repeats
from autosearch.spec import load_spec
from autosearch.storage import EstimateFiles, Repeat
from autosearch.study import EstimateOptions, Terms, summarise
from autosearch.study.factory import run_estimate
from autosearch.study.repeats import REPEAT, RepeatDriver, RepeatEvaluator, repeat_seed

GIVEN = {
    "dataset.category": "brick", "dataset.image_size": 64, "backbone.weights": "random",
    "space.coreset_ratio": 0.2, "space.coreset_method": "random",
}  # fmt: skip
THREE = EstimateOptions(repeats=3)
RECORD = TrialRecord(0, Status.COMPLETE, {"a": 1}, {"a": 1})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    given = {**GIVEN, "dataset.root": demo_root()}
    results = tmp_path_factory.mktemp("results")
    found = autosearch.search("autopatch", given, trials=2, results=results, executor="local")
    found.factory_estimate(0, options=THREE, executor="local")
    return found


def repeats_of(study: autosearch.Study, name: str = "trial-0") -> dict[int, Repeat]:
    return EstimateFiles(study.path, name).repeats()


# What a worker does.


class Darkness:
    """A detector whose scores are darkness, and a runner that remembers what it was shown."""

    top_share = None

    def __init__(self) -> None:
        self.shown: list[tuple[ImageSet, ImageSet]] = []

    def build(self, canonical, context):
        self.context = context
        return self

    def fit(self, images):
        self.shown.append((images, self.context.validation))

    def anomaly_maps(self, images):
        return 1 - images.mean(dim=1)


@pytest.fixture(scope="module")
def toy() -> tuple[RepeatEvaluator, Darkness]:
    spec = load_spec(
        api.spaces()["autopatch"], ["dataset.image_size=32", "dataset.category=brick"]
    )
    images = np.random.default_rng(0).random((40, 3, 8, 8), dtype=np.float32)
    masks = np.zeros((40, 8, 8), dtype=bool)
    masks[30:, 2:4, 2:4] = True
    images[30:, :, 2:4, 2:4] *= 0.3
    names = tuple(f"{i}.png" for i in range(40))
    types, groups = ("good",) * 30 + ("hole",) * 10, tuple(f"g{i // 2}" for i in range(40))
    pool, runner = ImageSet(images, masks, types, names, groups), Darkness()
    return RepeatEvaluator(spec, runner, (RECORD,), pool, None), runner


def evaluated(evaluator: RepeatEvaluator, number: int) -> Repeat:
    driver = RepeatDriver(evaluator.spec, RECORD, {number: repeat_seed(0, number)}, print)
    (outcome,) = evaluator.steps(driver.ask())
    return Repeat.model_validate_json(outcome.artifacts[REPEAT])


def test_nothing_that_is_fitted_or_selected_on_is_measured_on(toy) -> None:
    evaluator, runner = toy
    found = evaluated(evaluator, 0)
    train, validation = runner.shown[-1]
    measured = set(found.inference_set.groups)
    assert not measured & {*train.groups, *validation.groups}
    assert list(validation.paths) == found.threshold_set.paths
    assert set(train.types) == {"good"} and len(train) == found.train == 20
    assert not train.masks.any() and train.masks.shape[1:] == train.pixels.shape[2:]
    assert found.threshold_set.types.count("hole") in (4, 6)
    scores = dict(zip(found.inference_set.paths, found.inference_set.scores, strict=True))
    for path, score in scores.items():
        i = evaluator.images.paths.index(path)
        assert score == pytest.approx(1 - evaluator.images.pixels[i].mean(axis=0).min())


def test_pixels_are_counted_at_cuts_of_the_threshold_set(toy) -> None:
    found = evaluated(toy[0], 1)
    pixels, images = found.pixels, toy[0].images
    rows = [images.paths.index(path) for path in found.inference_set.paths]
    scores = 1 - images.pixels[rows].mean(axis=1)
    place = len(pixels.cuts) // 2
    called, marked = scores >= pixels.cuts[place] - 1e-7, images.masks[rows]
    assert pixels.inference_set.hits[place] == (called & marked).sum()
    assert pixels.inference_set.alarms[place] == (called & ~marked).sum()
    assert pixels.inference_set.positives == marked.sum()
    assert pixels.cuts == sorted(pixels.cuts, reverse=True)


def test_a_repeat_is_the_same_wherever_it_is_evaluated(toy) -> None:
    first, second = (evaluated(toy[0], 2), evaluated(pickle.loads(pickle.dumps(toy[0])), 2))
    assert first.model_copy(update={"seconds": {}}) == second.model_copy(update={"seconds": {}})
    other = evaluated(toy[0], 3)
    assert other.inference_set.paths != first.inference_set.paths


def test_lost_repeats_come_again_and_failed_ones_end_it(toy) -> None:
    kept: dict[int, bytes] = {}
    driver = RepeatDriver(toy[0].spec, RECORD, {0: 7, 4: 9}, kept.__setitem__)
    assert [driver.ask().seed, driver.ask().seed, driver.ask()] == [7, 9, None]
    for _ in range(driver.spec.study.retries):
        driver.lost(4, "its worker died")
        assert not driver.finished and driver.ask().number == 4
    with pytest.raises(StudyError, match="repeat 4: its worker died"):
        driver.lost(4, "its worker died")
    driver.tell(0, Outcome(Status.COMPLETE, artifacts={REPEAT: b"{}"}))
    assert kept == {0: b"{}"} and driver.finished
    with pytest.raises(StudyError, match="repeat 0: failed: broken"):
        driver.tell(0, Outcome(Status.FAILED, reason="broken"))


def test_a_runner_that_learns_from_defects_is_refused() -> None:
    inputs = SimpleNamespace(
        runner=SimpleNamespace(supervised=True),
        spec=SimpleNamespace(study=SimpleNamespace(runner="x")),
    )
    with pytest.raises(ConfigError, match=r"runner: 'x'.*normal images alone"):
        run_estimate(None, "", inputs, None, [RECORD], THREE, None)


# What is kept and said.


def test_figures_follow_from_what_is_kept(study: autosearch.Study) -> None:
    repeats = repeats_of(study)
    estimate = api.stored_estimate(study.path)
    assert list(repeats) == [0, 1, 2] and len({found.seed for found in repeats.values()}) == 3
    for one, found in zip(estimate.repeats, repeats.values(), strict=True):
        labels = [np.array(p.types) != "good" for p in (found.threshold_set, found.inference_set)]
        tau = choose_threshold(found.threshold_set.scores, labels[0], "youden")
        assert one.threshold == tau
        counts = confusion(found.inference_set.scores, labels[1], tau)
        assert one.values["sensitivity"] == counts.tpr
        assert one.values["false_alarms"] == pytest.approx(990 * counts.fpr)
        assert one.values["missed"] == pytest.approx(10 * (1 - counts.tpr))
        # Youden's threshold on the very images that are measured cannot be beaten there.
        assert one.in_sample["balanced_accuracy"] >= one.values["balanced_accuracy"]
        low, high = one.intervals["specificity"]
        assert low <= one.values["specificity"] <= high
    ratio = np.mean([len(f.inference_set.paths) / f.train for f in repeats.values()])
    values = [one.values["image_auroc"] for one in estimate.repeats]
    assert estimate.over["image_auroc"] == over_repeats(values, ratio)


def test_anomalies_of_the_search_take_no_part(study: autosearch.Study) -> None:
    pool = load_pool(study.spec.dataset)
    driven = {p for p, part, label in zip(pool.images.paths, pool.parts, pool.images.labels,
                                          strict=True) if part == "val" and label}  # fmt: skip
    measured = {path for found in repeats_of(study).values()
                for part in (found.threshold_set, found.inference_set)
                for path in part.paths}  # fmt: skip
    assert driven and not driven & measured


def test_another_rule_trains_nothing(study: autosearch.Study) -> None:
    terms = Terms(Criterion("sensitivity", min_sensitivity=1.0), prevalence=0.2)
    told: list[autosearch.Update] = []
    found = study.factory_estimate(
        0, options=THREE, terms=terms, executor="local", progress=told.append
    )
    assert [(u.done, u.total) for u in told if u.stage == "estimating"] == [(3, 3)]
    assert found.terms == terms
    usual = api.stored_estimate(study.path)
    assert found.over["sensitivity"].mean >= usual.over["sensitivity"].mean
    assert found.over["image_auroc"] == usual.over["image_auroc"]


def test_what_is_missing_is_evaluated_again_and_comes_out_alike(study: autosearch.Study) -> None:
    files = EstimateFiles(study.path, "trial-0")
    before, place = files.repeats(), files.path / "repeat-001.json"
    place.unlink()
    stamp = (files.path / "repeat-000.json").stat().st_mtime_ns
    study.factory_estimate(0, options=THREE, executor="local")
    assert files.repeats()[1].inference_set == before[1].inference_set
    assert (files.path / "repeat-000.json").stat().st_mtime_ns == stamp


def test_an_interrupt_keeps_what_is_finished(study: autosearch.Study) -> None:
    def interrupt(update: autosearch.Update) -> None:
        if update.stage == "estimating" and update.done == 1:
            raise KeyboardInterrupt

    asked = {"options": EstimateOptions(repeats=2), "name": "stopped", "executor": "local"}
    with pytest.raises(KeyboardInterrupt):
        study.factory_estimate(0, progress=interrupt, **asked)
    assert list(repeats_of(study, "stopped")) == [0]
    assert len(study.factory_estimate(0, **asked).repeats) == 2


def test_another_estimate_is_not_mixed_with_it(study: autosearch.Study) -> None:
    other = replace(THREE, search_anomalies=True)
    with pytest.raises(StudyError, match=r"something else \(other search_anomalies\)"):
        study.factory_estimate(0, options=other, executor="local")
    with pytest.raises(StudyError, match=r"\(other configurations\); replace it with --force"):
        study.factory_estimate(1, options=THREE, name="trial-0", executor="local")
    assert len(repeats_of(study)) == 3


def test_stated_test_normals_can_be_kept_apart(study: autosearch.Study) -> None:
    options = EstimateOptions(repeats=2, merge_test_normals=False)
    study.factory_estimate(0, options=options, name="apart", executor="local")
    pool = load_pool(study.spec.dataset)
    stated = {p for p, is_test in zip(pool.images.paths, pool.stated, strict=True) if is_test}
    for found in repeats_of(study, "apart").values():
        for part in (found.threshold_set, found.inference_set):
            normal = {p for p, t in zip(part.paths, part.types, strict=True) if t == "good"}
            assert normal and normal <= stated


def test_an_ensemble_and_a_fixed_configuration(study: autosearch.Study, tmp_path: Path) -> None:
    two = EstimateOptions(repeats=2)
    found = study.factory_estimate(ensemble=[1, 0], options=two, executor="local")
    assert found.over["rwap"] and "ensemble-0+1" in EstimateFiles.names(study.path)
    params = study.trial(0).params
    given = {**GIVEN, "dataset.root": demo_root(), "start": [params]}
    alone = api.estimate_spec("autopatch", tmp_path, given, options=two, executor="local")
    assert alone.sizes[0]["inference_anomalous"] >= found.sizes[0]["inference_anomalous"]
    with pytest.raises(ConfigError, match=r"space\.\w+: .*a single value"):
        api.estimate_spec("autopatch", tmp_path, GIVEN, options=two, executor="local")


@pytest.mark.parametrize(
    ("inference", "equal"),
    [((4, 4), True), ((5, 5), True), ((4, 5), True), ((6, 6), False), ((4, 6), False)],
)
def test_the_odd_image_makes_no_unequal_sets(
    study: autosearch.Study, inference: tuple[int, int], equal: bool
) -> None:
    parts = ("inference_normal", "inference_anomalous")
    sizes = {
        "threshold_normal": 4,
        "threshold_anomalous": 4,
        **dict(zip(parts, inference, strict=True)),
    }
    found = summarise(repeats_of(study), Terms())
    assert replace(found, sizes=(sizes,)).equal == equal


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", r"repeat-000\.json: cannot be read"),
        (None, "no repeat is finished"),
    ],
)
def test_damaged_and_empty_estimates(tmp_path: Path, content: str | None, message: str) -> None:
    files = EstimateFiles(tmp_path, "mine")
    files.write({"made_from": {}})
    if content is not None:
        files.write_repeat(0, content.encode())
    with pytest.raises(StudyError, match=message):
        api.stored_estimate(tmp_path)
    with pytest.raises(StudyError, match="no name of an estimate"):
        EstimateFiles(tmp_path, "../mine")


# The command and the page.


def lines_of(*arguments: str) -> str:
    run = CliRunner().invoke(app, ["factory", *arguments])
    assert run.exit_code == 0, run.output or run.exception
    return run.output


def test_the_command_shows_it(study: autosearch.Study) -> None:
    shown = lines_of(
        "estimate", str(study.path), "--trial", "0", "--repeats", "3", "--executor", "local",
        "--threshold-rule", "cost", "--cost-fn", "20", "--cost-fp", "1", "--prevalence", "0.02",
    )  # fmt: skip
    assert "Estimate of 3 repeats" in shown and "false alarms per shift" in shown
    assert "one missed costs 20" in shown and "merged with the others" in shown


def embedded(page: str) -> Iterator[dict]:
    block = page.partition('id="figures">')[2].partition("</script>")[0]
    yield from json.loads(block).values()


def test_the_page_has_everything_in_it(study: autosearch.Study, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    lines_of("report", str(study.path), "--name", "trial-0", "--out", str(out))
    page = out.read_text(encoding="utf-8")
    assert "Factory estimate: trial 0" in page and "default-src 'none'" in page
    assert len(list(embedded(page))) == 4 and all(figure["data"] for figure in embedded(page))
    estimate = summarise(repeats_of(study), Terms(), study.spec.study.seed)
    wrong = sum(one.reached.fp + one.reached.fn for one in estimate.repeats)
    assert ("data:image/jpeg;base64," in page) == bool(wrong)
    body = page.partition("<body>")[2].partition("<script")[0]
    assert "http" not in body


def test_which_estimate_has_to_be_said_where_there_are_several(study: autosearch.Study) -> None:
    study.factory_estimate(1, options=EstimateOptions(repeats=2), executor="local")
    with pytest.raises(StudyError, match=r"there are .*trial-0, trial-1; which\?"):
        api.stored_estimate(study.path)
    with pytest.raises(StudyError, match="no estimate trial-9"):
        api.estimate_name(study.path, "trial-9")
