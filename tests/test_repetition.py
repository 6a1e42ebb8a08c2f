"""Configurations that are run several times: means, deviations, what is chosen by them."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import autosearch
from autosearch.cli import app
from autosearch.contracts import Assignment, Outcome, Progress, Status
from autosearch.data import demo_root
from autosearch.errors import ConfigError, StudyError
from autosearch.study import of_first_run
from autosearch.study.repetition import repeated_steps, run_seed

GIVEN = {
    "dataset.category": "brick", "dataset.image_size": 64, "backbone.weights": "random",
    "space.coreset_ratio": 0.2, "space.coreset_method": "random",
}  # fmt: skip
ASSIGNMENT = Assignment(3, {"a": 1}, {"a": 1}, 77)


def once(assignment: Assignment) -> Iterator[Progress | Outcome]:
    """A training whose figures are its seed's."""
    value = assignment.seed % 1000 / 1000
    yield Progress(0.5, {"rwap": value / 2})
    yield Outcome(
        Status.COMPLETE,
        {"rwap": value},
        {"ap": value**2, "gmacs": 2.0},
        {"rwap >= 0.5": 0.5 - value},
        {"fit": 2.0},
        artifacts={"maps.jpg": str(assignment.seed).encode()},
    )


def test_values_are_means_and_deviations_stand_beside_them() -> None:
    *progress, outcome = repeated_steps(once, ASSIGNMENT, 3)
    seeds = [run_seed(77, index) for index in range(3)]
    values = [seed % 1000 / 1000 for seed in seeds]
    assert seeds[0] == 77 and len(set(seeds)) == 3
    assert outcome.values == {"rwap": pytest.approx(statistics.fmean(values))}
    assert outcome.measured == {
        "ap": pytest.approx(statistics.fmean(v**2 for v in values)),
        "gmacs": 2.0,
        "rwap_sd": pytest.approx(statistics.stdev(values)),
        "ap_sd": pytest.approx(statistics.stdev(v**2 for v in values)),
    }
    assert outcome.violations["rwap >= 0.5"] == pytest.approx(0.5 - outcome.values["rwap"])
    assert outcome.seconds == {"fit": 6.0} and outcome.artifacts["maps.jpg"] == b"77"
    runs = json.loads(outcome.artifacts["repeats.json"])["runs"]
    assert [run["seed"] for run in runs] == seeds
    assert [run["figures"]["rwap"] for run in runs] == values
    assert [step.fraction for step in progress] == pytest.approx([1 / 6, 3 / 6, 5 / 6])
    assert progress[1].values["rwap"] == pytest.approx((values[0] + values[1] / 2) / 2)


def test_what_only_grows_is_spent_by_all_runs() -> None:
    def spending(assignment: Assignment) -> Iterator[Progress | Outcome]:
        yield Progress(0.25, {"seconds": 1.0})
        yield Outcome(Status.COMPLETE, {"seconds": 4.0})

    *progress, outcome = repeated_steps(spending, ASSIGNMENT, 3, ["seconds"])
    assert outcome.values == {"seconds": 4.0}
    # Wherever it stands, it is on its way to the 4 of the end.
    assert [step.values["seconds"] / step.fraction for step in progress] == pytest.approx([4] * 3)


def test_a_run_that_does_not_complete_ends_the_trial() -> None:
    def failing(assignment: Assignment) -> Iterator[Progress | Outcome]:
        if assignment.seed != 77:
            yield Outcome(Status.FAILED, reason="broken")
        else:
            yield from once(assignment)

    steps = list(repeated_steps(failing, ASSIGNMENT, 5))
    assert steps[-1].status == Status.FAILED and len(steps) == 2


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> autosearch.Study:
    given = {**GIVEN, "dataset.root": demo_root(), "study.repeats": 2}
    results = tmp_path_factory.mktemp("results")
    return autosearch.search("autopatch", given, trials=3, results=results, executor="local")


def test_a_search_with_repeats(study: autosearch.Study) -> None:
    for record in study.trials:
        runs = study.runs(record.number)
        assert runs["rwap"].mean == record.values["rwap"] and runs["rwap"].runs == 2
        assert runs["rwap"].deviation == record.measured["rwap_sd"] > 0
        assert "gflops_sd" not in record.measured


def test_its_trials_are_repeated_exactly(study: autosearch.Study) -> None:
    # What is fitted again is the first run, and it is held against what that run had reached.
    figures = study.evaluate([1], resamples=100)[1]
    assert figures["validation"]["reproduced"]
    runs = study._folder.files.load_runs(1)
    assert of_first_run(study.trial(1), runs).values["rwap"] == runs[0].figures["rwap"]


def test_another_number_of_repeats_is_another_study(study: autosearch.Study) -> None:
    spec = study.spec
    other = replace_study(spec, repeats=3, trials=4)
    with pytest.raises(StudyError, match=r"another study\.repeats: 2 then, 3 now"):
        study.search(other, "local")


def replace_study(spec, **changes):
    return spec.model_copy(update={"study": spec.study.model_copy(update=changes)})


class TestRepeat:
    @pytest.fixture
    def study(self, tmp_path: Path) -> autosearch.Study:
        given = {**GIVEN, "dataset.root": demo_root()}
        return autosearch.search("autopatch", given, trials=3, results=tmp_path, executor="local")

    def test_keeps_what_was_run_and_is_chosen_by(self, study: autosearch.Study) -> None:
        number = study.recommend().trial.number
        told: list[autosearch.Update] = []
        first = study.repeat([number], 2, progress=told.append)[number]["rwap"]
        assert [(u.done, u.total) for u in told if u.stage == "repeating"] == [(0, 1), (1, 1)]
        more = study.repeat([number], 4)[number]["rwap"]
        assert (first.runs, more.runs) == (2, 4) and more.deviation > 0
        runs = study._folder.files.load_runs(number)
        assert runs[0].figures["rwap"] == study.trial(number).values["rwap"]
        assert first.mean == statistics.fmean(run.figures["rwap"] for run in runs[:2])
        # The choice is among trials that were run as often, by their means.
        others = [record.number for record in study.trials if record.number != number]
        every = study.repeat(others, 4) | {number: study.runs(number)}
        best = max(every, key=lambda n: every[n]["rwap"].mean)
        choice = study.recommend()
        assert choice.trial.number == best
        assert choice.trial.values["rwap"] == every[best]["rwap"].mean
        assert "mean of 4 runs, standard deviation" in choice.reasons[1]
        assert study.evaluate([number], resamples=100)[number]["validation"]["reproduced"]

    def test_running_another_trial_again_does_not_make_it_the_choice(
        self, study: autosearch.Study
    ) -> None:
        best = study.recommend().trial
        worst = min(study.trials, key=lambda record: record.values["rwap"])
        study.repeat([worst.number], 2)
        assert study.recommend().trial == best

    def test_the_command_shows_it(self, study: autosearch.Study) -> None:
        run = CliRunner().invoke(app, ["repeat", str(study.path), "--repeats", "2"])
        assert run.exit_code == 0, run.output
        assert "mean ± standard deviation over seeds" in run.output
        shown = CliRunner().invoke(app, ["show", str(study.path)]).output
        assert "Run several times, on validation" in shown

    def test_a_damaged_file_is_named(self, study: autosearch.Study) -> None:
        folder = study._folder.files.path(0)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "repeats.json").write_text('{"runs": [{"seed": -1, "figures": {}}]}')
        with pytest.raises(StudyError, match=r"repeats\.json: cannot be read"):
            study.recommend()


def test_the_front_is_repeated_at_the_end(tmp_path: Path) -> None:
    given = {**GIVEN, "dataset.root": demo_root(), "study.front_repeats": 3}
    study = autosearch.search("autopatch", given, trials=3, results=tmp_path, executor="local")
    assert {study.runs(record.number)["rwap"].runs for record in study.front} == {3}
    behind = {r.number for r in study.trials} - {r.number for r in study.front}
    assert all(study.runs(number) == {} for number in behind)


def test_an_interrupt_among_the_last_runs_keeps_those_that_ended(tmp_path: Path) -> None:
    def interrupt(update: autosearch.Update) -> None:
        if update.stage == "repeating" and update.done == 1:
            raise KeyboardInterrupt

    given = {**GIVEN, "dataset.root": demo_root(), "study.front_repeats": 3}
    study = autosearch.search(
        "autopatch", given, trials=2, results=tmp_path, executor="local", progress=interrupt
    )
    first = study.front[0].number
    assert study.stopped and study.runs(first)["rwap"].runs == 2
    assert study.resume(executor="local").runs(first)["rwap"].runs == 3 and not study.stopped


@pytest.mark.parametrize("key", ["repeats", "front_repeats"])
def test_numbers_that_are_none(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"study\.{key}: 0 "):
        autosearch.search("autopatch", {f"study.{key}": 0})
