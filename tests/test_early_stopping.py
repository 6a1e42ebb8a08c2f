"""Which trials are stopped, and what is told of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from autosearch.contracts.trials import Assignment, Outcome, Progress, Status, TrialRecord
from autosearch.errors import ConfigError
from autosearch.executors.local import LocalExecutor
from autosearch.spec.reading import parse_spec
from autosearch.spec.sections import PrunerSpec, StudySpec
from autosearch.storage.folder import StudyFolder
from autosearch.study.driver import StudyDriver
from autosearch.study.early_stopping import EarlyStopping

BOTH = {"gflops": "minimize", "rwap": "maximize"}


def values(gflops: float, rwap: float) -> dict[str, float]:
    return {"gflops": gflops, "rwap": rwap}


HISTORY = [
    (((0.5, values(1, 0.2)),), values(1, 0.30)),
    (((0.25, values(2, 0.1)), (0.5, values(2, 0.4))), values(2, 0.45)),
]
FRONT = [values(1, 0.30), values(2, 0.45)]


@pytest.mark.parametrize(
    ("fraction", "now", "stopped"),
    [
        (0.5, values(2.5, 0.34), True),  # 0.1 is the largest gain, and 0.44 < 0.45
        (0.5, values(2.5, 0.36), False),
        (0.5, values(0.5, 0.01), False),  # the cheapest of all
        (0.25, values(2.5, 0.11), False),  # only one trial was seen so early; it gained 0.35
        (0.05, values(2.5, 0.0), False),  # before the first rung
    ],
)
def test_a_trial_is_stopped_when_even_the_largest_gain_leaves_it_dominated(
    fraction: float, now: dict[str, float], stopped: bool
) -> None:
    stopping = EarlyStopping(PrunerSpec(startup_trials=2), BOTH)
    reason = stopping.hopeless([(fraction, now)], HISTORY, FRONT)
    assert (reason is not None) == stopped
    for patient in (PrunerSpec(name="none"), PrunerSpec(startup_trials=3)):
        assert EarlyStopping(patient, BOTH).hopeless([(0.5, now)], HISTORY, FRONT) is None


def test_a_curve_that_dips_counts_as_the_best_it_has_reached() -> None:
    stopping = EarlyStopping(PrunerSpec(startup_trials=2), BOTH)
    up_and_down = [(0.3, values(2.5, 0.36)), (0.5, values(2.5, 0.02))]
    assert stopping.hopeless(up_and_down, HISTORY, FRONT) is None
    assert stopping.hopeless(up_and_down[1:], HISTORY, FRONT) is not None
    low = [(0.5, values(2.5, 0.34))]
    assert stopping.hopeless(low, HISTORY, FRONT) is not None
    dipped = (((0.5, values(1, 0.2)), (0.8, values(1, 0.35))), values(1, 0.25))
    assert stopping.hopeless(low, [*HISTORY, dipped], FRONT) is None


def make_spec(objectives: list[str], **pruner: object) -> StudySpec:
    return parse_spec(
        {
            "study": {"name": "fake", "runner": "fake", "trials": 24},
            "space": {"x": {"int": [0, 9999]}},
            "objectives": objectives,
            "sampler": {"name": "random"},
            "pruner": pruner,
        }
    )


class Training:
    """Trials that gain 0.1 from every report to the next; the second costs what it wins."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.finished: list[int] = []

    def steps(self, assignment: Assignment) -> Iterator[Progress | Outcome]:
        x = float(assignment.canonical["x"]) / 9999

        def standing(step: int) -> dict[str, float]:
            both = values(round(x, 1), 0.1 * step + x * (0.2 + 0.8 * (assignment.number % 2)))
            return {name: both[name] for name in self.spec.objectives}

        for step in (1, 2, 3):
            yield Progress(step / 4, standing(step))
        self.finished.append(assignment.number)
        yield Outcome(Status.COMPLETE, standing(4))


def run(spec: StudySpec, folder: Path) -> tuple[list[TrialRecord], Training]:
    directions = {name: BOTH[name] for name in spec.objectives}
    driver = StudyDriver(StudyFolder(folder), spec, directions, dict, {})
    evaluator = Training(spec)
    LocalExecutor().run(driver, evaluator)
    driver.close()
    return StudyFolder(folder).trials.records(), evaluator


@pytest.mark.parametrize("objectives", [["rwap"], ["gflops", "rwap"]])
def test_stopped_trials_do_not_finish_and_have_no_values(
    tmp_path: Path, objectives: list[str]
) -> None:
    records, evaluator = run(make_spec(objectives), tmp_path / "a")
    pruned = {record.number for record in records if record.status == Status.PRUNED}
    complete = {record.number for record in records if record.status == Status.COMPLETE}
    assert pruned and complete == set(evaluator.finished) and len(pruned | complete) == 24
    assert all(not records[n].values and records[n].reason for n in pruned)
    assert all(records[n].measured["rwap"] == records[n].curve[-1][1]["rwap"] for n in pruned)
    everything, _ = run(make_spec(objectives, name="none"), tmp_path / "b")
    assert {record.status for record in everything} == {Status.COMPLETE}
    best = max(everything, key=lambda record: record.values["rwap"])
    assert best.number in complete


def test_resuming_asks_the_same_of_the_rest(tmp_path: Path) -> None:
    spec = make_spec(["gflops", "rwap"])
    whole, _ = run(spec, tmp_path / "whole")
    half = spec.model_copy(update={"study": spec.study.model_copy(update={"trials": 12})})
    run(half, tmp_path / "parts")
    parts, _ = run(spec, tmp_path / "parts")
    assert [(r.params, r.status) for r in parts] == [(r.params, r.status) for r in whole]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"pruner\.reduction_factor: 1"):
        make_spec(["rwap"], reduction_factor=1)
