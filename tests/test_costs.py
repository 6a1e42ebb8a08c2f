"""What trials cost in all: the objective, where it stands in tables, and when it is spoken of."""

from itertools import permutations

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from autosearch.cli.console import cost_warnings, front_table
from autosearch.cli.final_view import evaluated_table
from autosearch.contracts import registry
from autosearch.contracts.detector import Cost
from autosearch.contracts.objectives import TABLE
from autosearch.contracts.trials import Status, TrialRecord
from autosearch.spec.reading import load_spec
from autosearch.study.costs import compared, figure_of, order_warning

BOTH = ["gflops", "rwap"]


def trial(number: int, network: float, total: float, **measured: float) -> TrialRecord:
    values = {"gflops": network, "rwap": network}
    measured = {"total_gflops": total, **measured}
    return TrialRecord(number, Status.COMPLETE, {"stage0.x": 1}, {"stage0.x": 1}, values, measured)


def printed(*lines: object, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as caught:
        for line in lines:
            console.print(line)
    return caught.get()


def test_it_is_the_work_of_network_and_search() -> None:
    class Fitted:
        def cost(self) -> Cost:
            return Cost(macs=1, flops=2_000_000_000, search_flops=30_000_000_000,
                        parameters=1, bank_bytes=1)  # fmt: skip

    total = TABLE["total_gflops"]
    assert total.measure(Fitted(), None) == 32  # type: ignore[arg-type]
    assert (total.direction, total.unit, total.moment) == ("minimize", "GFLOP", "fit")
    assert total.default, "recorded for every trial"


def test_fixed_backbones_are_searched_by_it_and_autopatch_as_its_paper_does() -> None:
    found = {name: load_spec(path).objectives for name, path in registry.spaces().items()}
    assert found["backbones"] == ["total_gflops", "rwap"]
    assert found["autopatch"] == ["gflops", "rwap"]


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        (["gflops", "rwap"], ["gflops", "total_gflops", "rwap"]),
        (["rwap", "gflops"], ["rwap", "gflops", "total_gflops"]),
        (["gflops", "total_gflops"], ["gflops", "total_gflops"]),
        (["total_gflops", "rwap"], ["total_gflops", "rwap"]),
        (["training_seconds", "iou_half"], ["training_seconds", "iou_half"]),
    ],
)
def test_it_stands_beside_the_networks_alone(objectives: list[str], expected: list[str]) -> None:
    assert compared(objectives) == expected


def test_trials_of_earlier_versions_have_its_parts() -> None:
    old = TrialRecord(0, Status.COMPLETE, {}, {}, {"gflops": 0.5}, {"search_gflops": 30.0})
    assert figure_of(old, "total_gflops") == 30.5
    assert figure_of(old, "rwap") is None
    assert figure_of(TrialRecord(0, Status.COMPLETE, {}), "total_gflops") is None


def test_tables_show_it() -> None:
    front = [trial(0, 0.25, 31.5), trial(1, 0.5, 2.75)]
    objectives = {name: TABLE[name] for name in BOTH}
    head, first, *_ = printed(front_table(front, objectives)).splitlines()[1:]
    assert head.split()[:5] == ["trial", "gflops", "(GFLOP)", "↓", "total_gflops"]
    assert first.split()[:3] == ["0", "0.2500", "31.5"]
    figures = {"metrics": {"rwap": 0.1}, "intervals": {}}
    about = {"data": {"images": 1, "counts": {"crack": 1}, "sha256": "0" * 64}}
    about |= {"bootstrap": {"resamples": 10, "unit": "image"}}
    tests = {record.number: {**figures, "validation": figures, **about} for record in front}
    table = printed(*evaluated_table(front, objectives, tests))
    row = next(line for line in table.splitlines() if line.split()[:2] == ["1", "0.5"])
    assert "total_" in table and row.split()[2] == "2.75"


def test_another_order_is_said_in_one_line() -> None:
    front = [trial(3, 0.25, 31.5), trial(7, 0.5, 2.75)]
    (line,) = cost_warnings(front, {name: TABLE[name] for name in BOTH})
    assert "trial 3 has fewer than trial 7 (0.25 and 0.5)" in line and "31.5 and 2.75" in line
    assert line.count("\n") == 0 and "objectives=" in line
    assert not list(cost_warnings(front[:1], {name: TABLE[name] for name in BOTH}))
    assert order_warning(front, ["rwap"]) is None and order_warning([], BOTH) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=7))
def test_it_is_said_where_any_two_trials_change_places(costs: list[tuple[int, int]]) -> None:
    front = [trial(i, network, network + search) for i, (network, search) in enumerate(costs)]
    worst = max(
        (a.measured["total_gflops"] - b.measured["total_gflops"]
         for a, b in permutations(front, 2) if a.values["gflops"] < b.values["gflops"]),
        default=0,
    )  # fmt: skip
    line = order_warning(front, BOTH)
    assert (line is not None) == (worst > 0)
    if line is not None:
        first, second = (front[int(line.split("trial ")[place].split()[0])] for place in (1, 2))
        gap = first.measured["total_gflops"] - second.measured["total_gflops"]
        assert gap == worst and first.values["gflops"] < second.values["gflops"]
