"""Evaluation that gives outcomes alone: whatever goes wrong becomes a failed trial."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator

from autosearch.contracts import Assignment, Outcome, Progress, Status
from autosearch.errors import Infeasible, TrialTimeout
from autosearch.study.clock import time_limit
from autosearch.study.work import Evaluator


def evaluate_safely(
    evaluator: Evaluator, assignment: Assignment, timeout: float | None = None
) -> Iterator[Progress | Outcome]:
    """Evaluate, turning every error of the trial into a failed outcome with its traceback.

    Args:
        evaluator: What evaluates.
        assignment: What to evaluate.
        timeout: Seconds after which the trial fails. Only the main thread of a process can be
            interrupted; elsewhere the limit is not kept.

    Yields:
        What `TrialEvaluator.steps` yields; the last is an outcome, whatever happens.
    """
    start = time.monotonic()
    steps = evaluator.steps(assignment)
    while True:
        left = None if timeout is None else max(1e-3, timeout - (time.monotonic() - start))
        step = _next_safely(steps, left, start, timeout)
        yield step
        if isinstance(step, Outcome):
            return


def _next_safely(
    steps: Iterator[Progress | Outcome], left: float | None, start: float, timeout: float | None
) -> Progress | Outcome:
    try:
        with time_limit(left):
            return next(steps)
    except TrialTimeout:
        reason = f"ran longer than its limit of {timeout:g} s"
        trace: str | None = None
    except Infeasible as error:
        violations = {"feasible": 1.0}
        return Outcome(Status.INFEASIBLE, violations=violations, reason=str(error))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        trace = traceback.format_exc()
    elapsed = {"until_failure": time.monotonic() - start}
    return Outcome(Status.FAILED, seconds=elapsed, reason=reason, traceback=trace)
