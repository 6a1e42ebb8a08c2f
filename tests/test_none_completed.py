"""What a search says whose trials all went wrong, and how it ends."""

import pytest

from autosearch.cli.search import _why_none
from autosearch.contracts.trials import Status, TrialRecord


def record(number: int, status: Status, reason: str | None) -> TrialRecord:
    return TrialRecord(number, status, {}, {}, reason=reason)


def test_the_reason_is_that_of_most_trials() -> None:
    records = [
        record(0, Status.INFEASIBLE, "no features"),
        record(1, Status.FAILED, "ValueError: one\nline"),
        record(2, Status.RUNNING, None),
        record(3, Status.FAILED, "ValueError: one\nline"),
    ]
    assert list(_why_none(records, "results/a")) == [
        "No trial completed.",
        r"2 of 4 trials failed: ValueError: one\nline",
        "See: autosearch show results/a --trial 1",
    ]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], ["No trial completed."]),
        (
            [record(0, Status.PRUNED, "dominated")],
            [
                "No trial completed.",
                "The trial is pruned: dominated",
                "See: autosearch show a --trial 0",
            ],
        ),
    ],
)
def test_of_few_trials(records: list[TrialRecord], said: list[str]) -> None:
    assert list(_why_none(records, "a")) == said
