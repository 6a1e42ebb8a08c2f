"""Options of commands that choose a threshold: the rule, and the numbers that rules need."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:  # Imported where it is used, so that --help answers at once.
    from autosearch.metrics import Criterion


class ThresholdRule(StrEnum):
    """How thresholds are chosen."""

    F1 = "f1"
    YOUDEN = "youden"
    FPR = "fpr"
    BALANCED_ACCURACY = "balanced_accuracy"
    SENSITIVITY = "sensitivity"
    COST = "cost"
    NORMAL_PERCENTILE = "normal_percentile"


RuleOption = Annotated[
    ThresholdRule,
    typer.Option(
        "--threshold-rule",
        "--threshold",
        help="Best F1, Youden, or balanced accuracy; bounded FPR or sensitivity; least cost; a "
        "percentile of normal scores times a factor.",
    ),
]
MaxFprOption = Annotated[
    float | None, typer.Option("--max-fpr", help="Rule fpr: largest false-positive rate.")
]
MinSensitivityOption = Annotated[
    float | None,
    typer.Option("--min-sensitivity", help="Rule sensitivity: least true-positive rate."),
]
PrevalenceOption = Annotated[
    float | None,
    typer.Option("--prevalence", help="Rule cost: share of anomalous ones on the line."),
]
CostFnOption = Annotated[
    float | None, typer.Option("--cost-fn", help="Rule cost: what one missed costs.")
]
CostFpOption = Annotated[
    float | None, typer.Option("--cost-fp", help="Rule cost: what one false alarm costs.")
]
PercentileOption = Annotated[
    float | None,
    typer.Option("--percentile", help="Rule normal_percentile: which of the normal scores."),
]
FactorOption = Annotated[
    float | None, typer.Option("--factor", help="Rule normal_percentile: what it is times.")
]


def criterion_of(
    rule: ThresholdRule,
    max_fpr: float | None,
    min_sensitivity: float | None,
    prevalence: float | None,
    cost_fn: float | None,
    cost_fp: float | None,
    percentile: float | None = None,
    factor: float | None = None,
) -> Criterion:
    """What the options say.

    Raises:
        ConfigError: A number is missing, out of range or not the rule's.
    """
    from autosearch.metrics import Criterion

    return Criterion(
        rule.value, max_fpr, min_sensitivity, prevalence, cost_fn, cost_fp, percentile, factor
    )
