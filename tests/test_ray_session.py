"""Inside a Ray session of the user's own: our search in it, and our trials for their Tuner."""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray import tune
from tiny import TINY

import autosearch
from autosearch.contracts import registry
from autosearch.contracts.trials import Assignment, Outcome, Progress, Status, trial_seed
from autosearch.errors import ConfigError
from autosearch.executors import ray_tune
from autosearch.executors.trainable import TrialFailed, TuneTrial, assignment_of
from autosearch.spec.reading import parse_spec

WIDTHS = [*TINY, "objectives=[bank_mb, rwap]", "space.coreset_ratio={float: [0.05, 0.2]}"]


@pytest.fixture(scope="module")
def session() -> Iterator[str]:
    """Ray as a user starts it; the id of its node."""
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR",
    )  # fmt: skip
    yield ray.get_runtime_context().get_node_id()
    ray.shutdown()


@pytest.mark.slow
def test_a_search_leaves_session_and_tune_as_they_were(session: str, tmp_path: Path) -> None:
    before = dict(os.environ)
    study = autosearch.search(
        "autopatch", WIDTHS, trials=1, results=tmp_path, executor="ray", name="inside"
    )
    assert [trial.status for trial in study.trials] == [Status.COMPLETE]
    assert ray.is_initialized() and ray.get_runtime_context().get_node_id() == session
    assert ray.get(ray.put(3)) == 3
    changed = set(ray_tune._SETTINGS) - {"RAY_USAGE_STATS_ENABLED"}
    assert all(os.environ.get(name) == before.get(name) for name in changed)


@pytest.mark.slow
def test_a_tuner_of_theirs_gets_what_a_search_does(session: str, tmp_path: Path) -> None:
    (trial,) = autosearch.search(
        "autopatch", WIDTHS, trials=1, results=tmp_path, executor="local", name="alone"
    ).trials
    ratios = [trial.params["coreset_ratio"], 7.0]
    results = tune.Tuner(
        autosearch.trainable("autopatch", WIDTHS),
        param_space={**trial.params, "coreset_ratio": tune.grid_search(ratios)},
        tune_config=tune.TuneConfig(
            metric="rwap", mode="max", reuse_actors=True, max_concurrent_trials=1
        ),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
    ).fit()
    found, wrong = (next(r for r in results if r.config["coreset_ratio"] == n) for n in ratios)
    assert "space.coreset_ratio: 7.0 is not allowed" in str(wrong.error)
    assert {name: found.metrics[name] for name in trial.values} == pytest.approx(trial.values)
    assert found.metrics["gflops"] == trial.measured["gflops"]
    assert found.metrics["progress"] == 1.0


SPEC = {
    "study": {"name": "a", "runner": "patchcore", "seed": 7},
    "objectives": ["cost"],
    "space": {"num_neighbors": 3, "coreset_ratio": {"float": [0.1, 1]}},
}


class Training:
    """An evaluator whose trials report once on the way to their cost."""

    def __init__(self, last: Outcome) -> None:
        self.spec, self._last = parse_spec(SPEC), last

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        yield Progress(0.5, {"cost": 9.0})
        yield self._last


def trial_of(last: Outcome) -> TuneTrial:
    trial = TuneTrial.__new__(TuneTrial)
    trial._evaluator, trial._runner = Training(last), patchcore()
    trial.reset_config({})
    return trial


def patchcore() -> Any:
    return registry.load_runner("patchcore")(
        parse_spec({**SPEC, "backbone": {"weights": "random"}})
    )


def test_trainings_report_in_between() -> None:
    trial = trial_of(Outcome(Status.COMPLETE, {"cost": 4.0}, {"gflops": 1.0}))
    assert trial.step() == {"cost": 9.0, "progress": 0.5}
    assert trial.step() == {"cost": 4.0, "gflops": 1.0, "progress": 1.0, "done": True}
    trial.reset_config({"num_neighbors": 1})
    assert trial.step()["progress"] == 0.5


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (Outcome(Status.INFEASIBLE, reason="breaks gflops <= 1: 2"), "breaks gflops"),
        (Outcome(Status.FAILED, reason="out of luck", traceback="Traceback"), "luck\nTraceback"),
        (Outcome(Status.COMPLETE, {"cost": math.nan}), "failed"),
    ],
)
def test_a_trial_without_values_is_an_error_of_tunes(last: Outcome, said: str) -> None:
    trial = trial_of(last)
    trial.step()
    with pytest.raises(TrialFailed, match=said):
        trial.step()


def test_what_tune_leaves_out_is_the_specs_where_it_is_fixed() -> None:
    runner, spec = patchcore(), parse_spec(SPEC)
    found = assignment_of(spec, runner, {"coreset_ratio": np.float64(0.5)})
    assert found.params == {"num_neighbors": 3, "coreset_ratio": 0.5}
    assert type(found.params["coreset_ratio"]) is float
    assert found.canonical == runner.canonical(dict(found.params))
    assert found.seed == trial_seed(7, found.canonical)
    assert assignment_of(spec, runner, {"num_neighbors": 1}).params == {"num_neighbors": 1}


@pytest.mark.parametrize("config", [{"coreset_ratio": 7.0}, {"coreset_rate": 0.1}])
def test_values_that_the_runner_does_not_know_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="coreset_rat"):
        assignment_of(parse_spec(SPEC), patchcore(), config)
