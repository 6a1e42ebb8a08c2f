"""``study.post_trials``: several settings on one fit, the best of which is what a trial is."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from bank_parts import ASKED, SEED, SIZE, TRAIN, built, fitted
from driving import complete, load_study, make_spec, open_driver, records, work
from test_bank_rows import runner

import autosearch
from autosearch.contracts import (
    Assignment,
    Outcome,
    Setting,
    Status,
    TiledDetector,
    TrialContext,
    canonical_key,
    registry,
    trial_seed,
)
from autosearch.data import demo_root, grid_of
from autosearch.errors import ConfigError, Infeasible
from autosearch.spec import Params, Space, TilingSpec, load_spec
from autosearch.study import TrialEvaluator, post_settings
from autosearch.study.inputs import load_inputs
from autosearch.study.post_settings import chosen, drawn_settings, variable
from autosearch.study.repetition import first_run, repeated_steps

LEVELS = {"level1.extract": True, "fusion": "levels"}
CASES: dict[str, tuple[Params, Params]] = {
    "smoothing": ({}, {"smoothing": 2.0, "top_share": 0.01}),
    "root": ({"smoothing": 2.0}, {"distance": "root", "smoothing": 0.0}),
    "of levels": (LEVELS, {"level2.weight": 3.0, "level3.weight": 0.5, "distance": "root"}),
    "without one": (LEVELS, {"level1.weight": 0.0, "smoothing": 1.0}),
    "within windows": ({"window": 1}, {"distance": "root", "smoothing": 1.0}),
    "of images": ({"neighbour_images": 2, "num_neighbors": 2}, {"smoothing": 3.0}),
    "weighed": (
        {"image_score": "reweighted", "distance": "root"},
        {"smoothing": 2.0, "top_share": 0.1},
    ),
    "few": ({"coreset_ratio": 0.2, "whitening": 0.3}, {"distance": "root", "smoothing": 4.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_follows_is_what_would_have_been_fitted(name: str) -> None:
    before, changes = CASES[name]
    first, expected = fitted(before), fitted({**before, **changes})
    follower = built({**before, **changes})
    follower.follow(first)
    answers = first.answers(ASKED)
    maps = expected.anomaly_maps(ASKED)
    assert torch.equal(follower.maps_of_answers(answers, ASKED), maps)
    assert torch.equal(follower.anomaly_maps(ASKED), maps)
    assert torch.equal(first.maps_of_answers(answers, ASKED), first.anomaly_maps(ASKED))
    assert not torch.equal(first.anomaly_maps(ASKED), maps), "they differ at all"
    assert follower.cost() == expected.cost() and follower.top_share == expected.top_share
    assert torch.equal(follower.module()(ASKED), expected.module()(ASKED))


def test_a_level_that_has_no_bank_cannot_be_weighed() -> None:
    first = fitted({**LEVELS, "level1.weight": 0.0})
    with pytest.raises(Infeasible, match="weight above 0 of a level that has no bank"):
        built(LEVELS).follow(first)


def test_what_comes_before_is_told_by_the_runner() -> None:
    def names(params: Params) -> frozenset[str]:
        canonical = runner().canonical({"backbone": "tf_efficientnet_lite0", **params})
        return runner().post_of(canonical)

    after = {"distance", "smoothing", "top_share"}
    assert names({}) == after and names({"image_score": "reweighted"}) == after - {"distance"}
    weights = {f"level{level}.weight" for level in (1, 2, 3)}
    assert names(LEVELS) == after | weights
    assert names({"level1.extract": True, "level_scale": "unit"}) == after, "weighed before"
    for params in ({}, LEVELS, {"image_score": "reweighted"}):
        assert names(params) <= runner().post_parameters
    baselines = registry.load_runner("baselines")
    assert "patchcore/smoothing" in baselines.post_parameters
    assert not registry.load_runner("draem").post_parameters


def test_of_tiles_every_part_follows() -> None:
    grid = grid_of(TilingSpec(size=48, overlap=0.25), SIZE)
    assert grid is not None

    def made(changes: Params, by_position: bool) -> TiledDetector:
        base = {"backbone": "tf_efficientnet_lite0", **changes}
        canonical, context = runner().canonical(base), TrialContext(SEED, "cpu", SIZE)
        make = lambda its: runner().build(canonical, its)  # noqa: E731
        return TiledDetector.built(grid, by_position, make, context)

    for by_position in (False, True):
        first, expected = made({}, by_position), made({"smoothing": 2.0}, by_position)
        few = TRAIN.part(0, 3)
        first.fit(few), expected.fit(few)
        follower = made({"smoothing": 2.0}, by_position)
        follower.follow(first)
        found = follower.maps_of_answers(first.answers(ASKED), ASKED)
        assert torch.equal(found, expected.anomaly_maps(ASKED))


SPACE = Space.parse(
    {
        "kind": ["a", "b"],
        "smoothing": {"float": [0.0, 4.0]},
        "distance": ["squared", "root"],
        "floor": {"float": [0.01, 1.0], "log": True, "when": {"distance": ["root"]}},
        "share": {"choice": [None, 0.1, 0.2]},
        "steps": {"int": [2, 10], "step": 4},
        "rows": {"int": [1, 1000], "log": True},
        "fixed": 3,
    }
)
NAMES = {"smoothing", "distance", "floor", "share", "steps", "fixed"}
DRAWN: Params = {
    "kind": "a", "smoothing": 1.5, "distance": "squared", "share": None, "steps": 2, "rows": 7,
    "fixed": 3,
}  # fmt: skip
PROPOSED = Setting(DRAWN, DRAWN, {})


class TestDrawnSettings:
    def drawn(self, wanted: int = 30, **options: Any) -> tuple[Setting, ...]:
        given = {"canonical": dict, "names": NAMES, "seed": 3, **options}
        proposed = Setting(DRAWN, given["canonical"](dict(DRAWN)), {})
        return drawn_settings(SPACE, proposed=proposed, wanted=wanted, **given)

    def test_keep_what_was_proposed_but_for_some_names(self) -> None:
        found = self.drawn()
        assert len(found) == 30
        assert len({canonical_key(one.canonical) for one in (*found, PROPOSED)}) == 31
        for one in found:
            assert one.params["kind"] == "a" and one.params["rows"] == 7
            assert ("floor" in one.params) == (one.params["distance"] == "root")
            assert all(SPACE[name].contains(value) for name, value in one.params.items())
            assert {**DRAWN, **one.changes}.items() >= one.params.items()
            assert all(DRAWN.get(n, "-") != value for n, value in one.changes.items())
        assert {one.params["share"] for one in found} == {None, 0.1, 0.2}
        assert {one.params["steps"] for one in found} == {2, 6, 10}
        floors = [one.params["floor"] for one in found if "floor" in one.params]
        assert min(floors) < 0.1 < max(floors)

    def test_follow_from_their_seed(self) -> None:
        assert self.drawn(5) == self.drawn(9)[:5]
        assert self.drawn(5) != self.drawn(5, seed=4)

    def test_are_as_many_as_there_are(self) -> None:
        pair = {"distance", "floor"}
        assert len(self.drawn(names=pair, canonical=lambda p: {"d": p["distance"]})) == 1
        assert self.drawn(names={"fixed"}) == self.drawn(names=set()) == ()

    def test_that_cannot_be_built_are_left_out(self) -> None:
        def canonical(params: Params) -> Params:
            if params["distance"] == "root":
                raise Infeasible("no roots")
            return params

        assert {one.params["distance"] for one in self.drawn(canonical=canonical)} == {"squared"}

    def test_what_others_depend_on_stays(self) -> None:
        assert variable(SPACE, NAMES) == NAMES - {"fixed"}
        assert variable(SPACE, {"smoothing", "distance"}) == {"smoothing"}


def test_the_best_is_that_of_the_best_mean_rank() -> None:
    up, down = SimpleNamespace(direction="maximize"), SimpleNamespace(direction="minimize")
    one: Any = {"rwap": up}
    values = [{"rwap": v} for v in (0.1, 0.4, math.nan, 0.4, 0.3)]
    assert chosen(values, [0.0] * 5, one) == 1, "the first of equals"
    assert chosen(values, [0.5, 0.5, 0.0, 0.5, 0.2], one) == 2, "what breaks no constraint"
    assert chosen(values, [0.5, 0.9, 0.7, 0.9, 0.6], one) == 0, "or least"
    assert chosen([{"rwap": 0.2}, {"rwap": 0.2}], [0.0, 0.0], one) == 0
    two: Any = {"rwap": up, "loss": down}
    pairs = ((0.5, 9.0), (0.4, 1.0), (0.3, 2.0), (0.2, 3.0))
    table = [{"rwap": a, "loss": b} for a, b in pairs]
    assert chosen(table, [0.0] * 4, two) == 1


# A study.


def setting(x: int) -> Params:
    return {"x": 1, "smoothing": x}


def after(assignment: Assignment) -> Outcome:
    """As an evaluator would: the highest smoothing is best."""
    tried = [Setting(assignment.params, assignment.canonical, {}), *assignment.others]
    best = max(tried, key=lambda one: one.params["smoothing"] or 0)
    values = [{"score": float(one.params["smoothing"] or 0)} for one in tried]
    found = replace(complete(assignment), values={"cost": 1.0, "score": max(
        v["score"] for v in values)})  # fmt: skip
    if not assignment.others:
        return found
    pairs = list(zip(tried, values, strict=True))
    return replace(found, post=post_settings.told(pairs, tried.index(best)))


class TestStudy:
    SPACE: ClassVar = {"x": [1], "smoothing": [0, 1, 2, 3, 4, 5]}

    def run(self, path: Path, trials: int = 6, **options: Any) -> list[Assignment]:
        spec = make_spec(self.SPACE, trials=trials, post_trials=2)
        driver = open_driver(path, spec, post_of=lambda canonical: {"smoothing"}, **options)
        done = work(driver, after)
        driver.close()
        return done

    def test_the_best_is_stored_and_what_was_proposed_kept(self, tmp_path: Path) -> None:
        done = self.run(tmp_path)
        by_number = {one.number: one for one in done}
        drawn = [trial.params for trial in load_study(tmp_path).trials]
        for record, proposed in zip(records(tmp_path), drawn, strict=True):
            its = by_number[record.origin]
            tried = [its.params, *(one.params for one in its.others)]
            best = max(tried, key=lambda params: params["smoothing"])
            assert record.params == record.canonical == best
            assert record.values["score"] == best["smoothing"]
            assert record.proposed == proposed
            assert [one["changes"] for one in record.post] == [
                {}, *(one.changes for one in its.others)
            ]  # fmt: skip
            assert "post" not in record.measured
            assert f"best of {len(tried)} tried" in (record.settings or "")

    def test_equals_are_what_was_proposed_twice(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, 8)
        assert len(done) == len({one.params["smoothing"] for one in done}) > 2
        kept = records(tmp_path)
        assert len(kept) == 8 and {one.status for one in kept} == {"complete", "cached"}
        assert len({canonical_key(one.canonical) for one in kept}) < len(done), "some chose alike"

    def test_seeds_are_those_of_the_fit(self, tmp_path: Path) -> None:
        done = self.run(tmp_path)
        assert {one.seed for one in done} == {trial_seed(0, {"x": 1})}
        assert trial_seed(0, setting(3), {"smoothing"}) == trial_seed(0, {"x": 1})
        assert trial_seed(0, setting(3)) != trial_seed(0, setting(4))
        tried = [tuple(str(other.changes) for other in one.others) for one in done]
        assert len(set(tried)) > 1, "what else is tried differs"

    def test_a_resumed_study_goes_on(self, tmp_path: Path) -> None:
        whole = self.run(tmp_path / "whole")
        first = self.run(tmp_path / "parts", 3)
        assert [*first, *self.run(tmp_path / "parts")] == whole

    def test_a_first_configuration_is_what_it_names(self, tmp_path: Path) -> None:
        spec = make_spec(self.SPACE, trials=2, post_trials=2)
        spec = spec.model_copy(update={"start": [{"x": 1, "smoothing": 0}]})
        driver = open_driver(tmp_path, spec, post_of=lambda canonical: {"smoothing"})
        first, second = driver.ask(), driver.ask()
        assert first and first.others == () and first.params["smoothing"] == 0
        assert second and len(second.others) == 2

    def test_what_breaks_a_constraint_is_the_chosen_setting_too(self, tmp_path: Path) -> None:
        def broken(assignment: Assignment) -> Outcome:
            measured = after(assignment).values
            return replace(
                after(assignment), status=Status.INFEASIBLE, values={}, measured=measured
            )

        spec = make_spec(self.SPACE, trials=4, post_trials=2)
        driver = open_driver(tmp_path, spec, post_of=lambda canonical: {"smoothing"})
        work(driver, broken)
        driver.close()
        for record in records(tmp_path):
            assert record.status == "infeasible" and len(record.post) == 3
            assert record.params == record.canonical == setting(int(record.measured["score"]))
        assert any(record.params != record.proposed for record in records(tmp_path))

    def test_without_it_nothing_is_tried(self, tmp_path: Path) -> None:
        spec = make_spec(self.SPACE, trials=1)
        driver = open_driver(tmp_path, spec, post_of=lambda canonical: {"smoothing"})
        work(driver, after)
        driver.close()
        (record,) = records(tmp_path)
        assert record.post == () and record.proposed == {} and record.settings is None


def test_further_runs_are_of_what_the_first_has_chosen() -> None:
    seen: list[Assignment] = []

    def once(assignment: Assignment) -> Any:
        seen.append(assignment)
        yield after(assignment)

    other = Setting(setting(5), setting(5), {"smoothing": 5})
    assignment = Assignment(0, setting(1), setting(1), 7, (other,))
    *_, outcome = repeated_steps(once, assignment, 3)
    assert isinstance(outcome, Outcome) and outcome.post is not None
    assert outcome.post["params"] == setting(5) and len(outcome.post["tried"]) == 2
    assert [one.canonical["smoothing"] for one in seen] == [1, 5, 5]
    assert [len(one.others) for one in seen] == [1, 0, 0]


def test_a_run_that_breaks_a_constraint_is_of_that_setting_too() -> None:
    def once(assignment: Assignment) -> Any:
        found = after(assignment)
        yield found if assignment.others else replace(found, status=Status.INFEASIBLE)

    other = Setting(setting(5), setting(5), {"smoothing": 5})
    (outcome,) = repeated_steps(once, Assignment(0, setting(1), setting(1), 7, (other,)), 3)
    assert isinstance(outcome, Outcome) and outcome.status == Status.INFEASIBLE
    assert outcome.post is not None and outcome.post["canonical"] == setting(5)


# The real thing.

GIVEN: dict[str, Any] = {
    "dataset.root": demo_root(), "dataset.category": "brick", "dataset.image_size": 64,
    "backbone.weights": "random", "study.post_trials": 3,
    "space.coreset_ratio": 0.2, "space.coreset_method": "random",
    "space.smoothing": [0.0, 1.0, 2.0, 4.0], "space.distance": ["squared", "root"],
    "objectives": ["total_gflops", "rwap"], "start": [],
}  # fmt: skip

SMALL: Params = {"coreset_ratio": 0.2, "coreset_method": "random", "distance": "squared"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    results = tmp_path_factory.mktemp("results")
    return autosearch.search("autopatch", GIVEN, trials=2, results=results, executor="local")


def test_a_trial_is_the_best_of_its_settings(study: autosearch.Study) -> None:
    searched = [record for record in study.trials if record.post]
    assert len(searched) == 2
    for record in searched:
        tried = [one["values"]["rwap"] for one in record.post]
        assert len(tried) == 4 == record.measured["post_trials"] + 1
        assert record.values["rwap"] == max(tried)
        assert record.post[tried.index(max(tried))]["changes"] == {
            name: value for name, value in record.params.items() if record.proposed[name] != value
        }
        assert record.seconds["settings"] > 0
        plain = {**record.proposed, **record.params}
        assert study.spec.parsed_space["smoothing"].contains(plain["smoothing"])


def test_it_is_made_again_from_what_is_stored(study: autosearch.Study) -> None:
    number = next(one.number for one in study.trials if one.params != one.proposed and one.post)
    figures = study.evaluate([number], resamples=100)[number]
    assert figures["validation"]["reproduced"]
    assert figures["validation"]["largest_difference"] == 0
    inputs = study._reopened(lambda update: None, ())
    record = study.trial(number)
    first = first_run(record, inputs.seed_of)
    assert first.seed == inputs.seed_of(inputs.runner.canonical(dict(record.proposed)))
    assert first.figures["rwap"] == record.values["rwap"]
    detector = autosearch.study.rebuild(inputs, record)
    detector.fit(inputs.data.train)
    cost = detector.cost()
    total = (cost.flops + cost.search_flops) / 1e9
    assert total == record.values["total_gflops"]


def test_all_figures_are_of_the_setting_that_breaks_a_constraint_least() -> None:
    given = {**GIVEN, "constraints": ["rwap >= 0.9999"]}
    inputs = load_inputs(load_spec(registry.find_space("autopatch"), [*given.items()]))
    evaluate = TrialEvaluator(inputs.spec, inputs.runner, inputs.data)
    drawn: list[Params] = [{**SMALL, "smoothing": its} for its in (0.0, 1.0, 3.0)]
    first, *others = (Setting(its, inputs.runner.canonical(dict(its)), {}) for its in drawn)
    outcome = evaluate(Assignment(0, first.params, first.canonical, 1, tuple(others)))
    assert outcome.status == Status.INFEASIBLE and outcome.post is not None
    best = outcome.post["canonical"]
    assert best != first.canonical
    alone = evaluate(Assignment(0, outcome.post["params"], best, 1))
    expected = {**alone.measured, "post_trials": 2.0}
    assert {**outcome.measured, "latency_ms": 0} == {**expected, "latency_ms": 0}
    assert outcome.violations == alone.violations and outcome.reason == alone.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space.smoothing": [0.0], "space.distance": ["root"]}, "smoothing, top_share"),
        ({"objectives": ["gflops", "total_gflops"]}, "no objective is of accuracy"),
    ],
)
def test_where_nothing_can_be_tried_or_chosen(changes: dict[str, Any], words: str) -> None:
    spec = load_spec(registry.find_space("autopatch"), [*{**GIVEN, **changes}.items()])
    with pytest.raises(ConfigError, match=rf"study\.post_trials.*{words}"):
        load_inputs(spec)
