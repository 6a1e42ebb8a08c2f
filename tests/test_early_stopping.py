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
DIRECTIONS = {**BOTH, "time": "minimize"}


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


TIMED = {"time": "minimize", "iou": "maximize"}
AT = (0.1, 0.25, 0.5, 0.75, 0.95)


def training(seconds: float, iou: float, until: float = 1.0) -> list[tuple[float, dict]]:
    """A training that spends evenly and learns fast, seen every twentieth."""
    fractions = [step / 20 for step in range(1, 20) if step / 20 <= until + 1e-9]
    return [(at, {"time": seconds * at, "iou": iou * at**0.5}) for at in fractions]


TRAININGS = [
    (training(seconds, iou), {"time": seconds, "iou": iou})
    for seconds, iou in ((10, 0.3), (12, 0.4), (14, 0.5), (15, 0.4), (16, 0.3))
]
BEST = [TRAININGS[index][1] for index in (0, 1, 2)]


@pytest.mark.parametrize("fraction", AT)
@pytest.mark.parametrize(
    ("seconds", "iou", "stopped"),
    [
        (32, 0.0, True),  # The case of the issue: twice as slow as the slowest, and IoU 0.
        (9, 0.0, False),  # The cheapest of all.
        (32, 0.6, False),  # The best of all.
        (11, 0.35, False),  # Between two of the front.
    ],
)
def test_what_a_training_spends_counts_as_it_will_be_at_the_end(
    fraction: float, seconds: float, iou: float, stopped: bool
) -> None:
    curve = training(seconds, iou, fraction)
    stopping = EarlyStopping(PrunerSpec(), TIMED, ("time",))
    reason = stopping.hopeless(curve, TRAININGS, BEST)
    assert (reason is not None) == stopped
    assert reason is None or f"time {seconds}," in reason
    # Without knowing that it only grows, the first report seems within reach of the end.
    assert EarlyStopping(PrunerSpec(), TIMED).hopeless(curve, TRAININGS, BEST) is None


def test_a_projection_is_as_optimistic_as_the_luckiest_training() -> None:
    def late(seconds: float) -> tuple[list[tuple[float, dict]], dict]:
        """The first half is as dear as 1.5 of the second."""
        curve = [(0.5, {"time": 0.6 * seconds, "iou": 0.4})]
        return curve, {"time": seconds, "iou": 0.4}

    stopping = EarlyStopping(PrunerSpec(startup_trials=2), TIMED, ("time",))
    history = [*TRAININGS[:2], late(100)]
    front = [{"time": 12, "iou": 0.4}]
    # Projected to 14; one training came to 1 / 1.2 of its projection, which leaves 11.7.
    assert stopping.hopeless([(0.5, {"time": 7.0, "iou": 0.1})], history, front) is None
    assert stopping.hopeless([(0.5, {"time": 7.5, "iou": 0.1})], history, front) is not None
    # What is spent is spent, however lucky the others were.
    lucky = [(late(9)[0], {"time": 5.5, "iou": 0.4})] * 2
    spent = [(0.95, {"time": 12.5, "iou": 0.1})]
    assert "time 12.5," in str(stopping.hopeless(spent, lucky, front))


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
            known = values(round(x, 1), 0.1 * step + x * (0.2 + 0.8 * (assignment.number % 2)))
            known["time"] = step * (1 + round(x, 1))
            return {name: known[name] for name in self.spec.objectives}

        for step in (1, 2, 3):
            yield Progress(step / 4, standing(step))
        self.finished.append(assignment.number)
        yield Outcome(Status.COMPLETE, standing(4))


def run(spec: StudySpec, folder: Path) -> tuple[list[TrialRecord], Training]:
    directions = {name: DIRECTIONS[name] for name in spec.objectives}
    cumulative = {"time"} & set(directions)
    driver = StudyDriver(StudyFolder(folder), spec, directions, dict, {}, cumulative=cumulative)
    evaluator = Training(spec)
    LocalExecutor().run(driver, evaluator)
    driver.close()
    return StudyFolder(folder).trials.records(), evaluator


@pytest.mark.parametrize("objectives", [["rwap"], ["gflops", "rwap"], ["time"], ["time", "rwap"]])
def test_stopped_trials_do_not_finish_and_have_no_values(
    tmp_path: Path, objectives: list[str]
) -> None:
    records, evaluator = run(make_spec(objectives), tmp_path / "a")
    pruned = {record.number for record in records if record.status == Status.PRUNED}
    complete = {record.number for record in records if record.status == Status.COMPLETE}
    assert pruned and complete == set(evaluator.finished) and len(pruned | complete) == 24
    assert all(not records[n].values and records[n].reason for n in pruned)
    name = objectives[-1]
    assert all(records[n].measured[name] == records[n].curve[-1][1][name] for n in pruned)
    everything, _ = run(make_spec(objectives, name="none"), tmp_path / "b")
    assert {record.status for record in everything} == {Status.COMPLETE}
    sign = 1 if DIRECTIONS[name] == "maximize" else -1
    best = max(everything, key=lambda record: sign * record.values[name])
    assert best.number in complete


@pytest.mark.parametrize("objectives", [["gflops", "rwap"], ["time", "rwap"], ["time"]])
def test_resuming_asks_the_same_of_the_rest(tmp_path: Path, objectives: list[str]) -> None:
    spec = make_spec(objectives)
    whole, _ = run(spec, tmp_path / "whole")
    half = spec.model_copy(update={"study": spec.study.model_copy(update={"trials": 12})})
    run(half, tmp_path / "parts")
    parts, _ = run(spec, tmp_path / "parts")
    assert [(r.params, r.status) for r in parts] == [(r.params, r.status) for r in whole]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"pruner\.reduction_factor: 1"):
        make_spec(["rwap"], reduction_factor=1)
