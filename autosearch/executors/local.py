"""One trial after the other in this process, with all of its cores. Exactly reproducible."""

from __future__ import annotations

import time

from autosearch.contracts import Outcome
from autosearch.executors.signals import stopping_on_signals
from autosearch.study import Driver, Evaluator, evaluate_safely

_POLL_SECONDS = 1.0


class _Interrupted(BaseException):
    """Leaves a trial from within; no `except Exception` in it may hold it up."""


class LocalExecutor:
    """Evaluates in the calling process."""

    def run(self, driver: Driver, evaluator: Evaluator) -> None:
        """See `Executor.run`."""
        evaluating = False

        def stop() -> None:
            driver.stop()
            # Between trials the study may be in the middle of a write, which must end.
            if evaluating:
                raise _Interrupted

        with stopping_on_signals(stop):
            while not driver.finished:
                assignment = driver.ask()
                if assignment is None:
                    time.sleep(0 if driver.finished else _POLL_SECONDS)
                    continue
                steps = evaluate_safely(evaluator, assignment, driver.spec.study.trial_timeout)
                outcome: Outcome | None = None
                while outcome is None and not driver.stopped:
                    try:
                        evaluating = True
                        step = next(steps)
                        evaluating = False
                    except _Interrupted:
                        return
                    number = assignment.number
                    outcome = step if isinstance(step, Outcome) else driver.report(number, step)
                if outcome is None:
                    return
                driver.tell(assignment.number, outcome)
