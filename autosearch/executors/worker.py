"""The process in which trials of a search run. It loads this module, and of Ray Tune no more."""

from __future__ import annotations

import faulthandler
import time
from typing import Any

import ray
import torch
from ray import tune

from autosearch.contracts import Outcome
from autosearch.study import Evaluator, evaluate_safely

GRACE_SECONDS = 10.0
"""How long after its time limit a trial that does not answer to it has its process ended."""


class Worker(tune.Trainable):  # type: ignore[misc]
    """A process that evaluates one assignment after the other over the same data."""

    def setup(self, config: dict[str, Any], *, shared: list[Any]) -> None:
        """Keep what all trials share, and to the cores that a trial was given.

        Args:
            config: Of the first trial.
            shared: The evaluator as an object that a node has once for all of its workers.
        """
        evaluator: Evaluator = ray.get(shared[0])
        torch.set_num_threads(max(1, int(evaluator.spec.resources.cpu)))
        self._evaluator, self._limit = evaluator, evaluator.spec.study.trial_timeout
        self.reset_config(config)

    def step(self) -> dict[str, Any]:
        """Evaluate until the trial reports in the middle of its training, or to its end."""
        if self._limit:
            # Ends the process from outside Python, should native code never return to it.
            left = self._limit + GRACE_SECONDS - (time.monotonic() - self._start)
            faulthandler.dump_traceback_later(max(1.0, left), exit=True)
        try:
            step = next(self._steps)
        finally:
            faulthandler.cancel_dump_traceback_later()
        return {"outcome": step, "done": True} if isinstance(step, Outcome) else {"progress": step}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next assignment without starting a new process."""
        self._steps = evaluate_safely(self._evaluator, new_config["assignment"], self._limit)
        self._start = time.monotonic()
        return True
